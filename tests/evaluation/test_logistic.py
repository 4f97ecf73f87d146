import numpy as np

from mae_jax.evaluation import logistic


def noisy(records, seed):
    """Two features that tell four classes apart, and many that tell nothing."""
    rng = np.random.default_rng(seed)
    labels = np.arange(records) % 4
    signal = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])[labels] * 1.5
    return np.hstack(
        [signal + rng.normal(size=(records, 2)), rng.normal(size=(records, 60))]
    ), labels


def test_the_penalty_is_chosen_by_cross_validation():
    train, test = noisy(80, 0), noisy(100, 1)
    # So strong a penalty leaves the intercepts alone, and they say the most frequent class.
    few = np.r_[np.flatnonzero(train[1] == 0), np.flatnonzero(train[1] > 0)[::2]]
    some = train[0][few], train[1][few]
    chosen = logistic.fit(*some, *test, grid=(1e-9, 0.1))
    assert chosen == logistic.fit(*some, *test, grid=(0.1,))
    assert chosen.accuracy > 0.4 > 0.26 > logistic.fit(*some, *test, grid=(1e-9,)).accuracy


def test_one_record_of_a_class_will_do():
    train, labels = noisy(4, 0)
    assert logistic.fit(train, labels, *noisy(40, 1)).inverse_l2 == logistic.GRID[4]

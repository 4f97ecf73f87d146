import numpy as np
import pytest

from mae_jax.evaluation import knn


def clusters(per_class, seed, spread=0.1):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), per_class)
    centres = np.eye(4, 8) * 3
    return centres[labels] + rng.normal(size=(len(labels), 8)) * spread, labels


def test_clusters_are_told_apart():
    bank, labels = clusters(25, 0)
    queries, truth = clusters(10, 1)
    assert knn.accuracy(bank, labels, queries, truth, classes=4, batch_size=7) == 1.0


def test_noise_is_guessed_at():
    rng = np.random.default_rng(0)
    value = knn.accuracy(
        rng.normal(size=(400, 8)), rng.integers(0, 4, 400),
        rng.normal(size=(400, 8)), rng.integers(0, 4, 400), classes=4,
    )  # fmt: skip
    assert abs(value - 0.25) < 0.1


def test_nearer_neighbours_weigh_more():
    # Two near neighbours of class 1 against three far ones of class 0.
    bank = np.array([[1, 0.02], [1, -0.02], [0.2, 1], [0.2, -1], [-0.4, 1.0]])
    labels = np.array([1, 1, 0, 0, 0])
    got = knn.accuracy(bank, labels, np.array([[1.0, 0.0]]), np.array([1]), classes=2, k=5)
    assert got == 1.0


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("temperature", [0.07, 3.0])
def test_accuracy_is_the_formulas(temperature, centred):
    # Features with a common part, as encoders' have, and neighbours of all classes.
    rng = np.random.default_rng(0)
    labels, truth = rng.integers(0, 3, 60), rng.integers(0, 3, 300)
    means = rng.normal(size=(3, 4))
    bank, queries = (means[c] + rng.normal(size=(len(c), 4)) + 1 for c in (labels, truth))
    middle = bank.mean(0) if centred else 0
    right, unequal = 0, 0
    for query, label in zip(queries - middle, truth, strict=True):
        similarity = [
            near @ query / np.linalg.norm(near) / np.linalg.norm(query) for near in bank - middle
        ]
        nearest, votes, counts = np.argsort(similarity)[-20:], np.zeros(3), np.zeros(3)
        for index in nearest:
            votes[labels[index]] += np.exp(similarity[index] / temperature)
            counts[labels[index]] += 1
        right += votes.argmax() == label
        unequal += votes.argmax() != counts.argmax()
    options = dict(centred=True) if centred else {}  # the published formula does not
    made = knn.accuracy(bank, labels, queries, truth, classes=3, temperature=temperature, **options)
    assert made == right / 300
    # Otherwise the temperature would make no difference here.
    assert unequal > 5 or temperature == 3.0


def test_fewer_records_than_neighbours():
    bank, labels = clusters(1, 0)
    assert knn.accuracy(bank, labels, bank, labels, classes=4, k=20) == 1.0

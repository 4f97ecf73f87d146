import numpy as np
import pytest

from mae_jax.evaluation.whitening import Moments


def features(rows=200, width=6, seed=0):
    """With a large mean, and deviations from 100 to 0.01 in directions of no feature's own."""
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.normal(size=(width, width)))[0]
    scaled = rng.normal(size=(rows, width)) * np.logspace(2, -2, width)
    return scaled @ turned + 1000


def test_whitening_is_sklearns():
    from sklearn.decomposition import PCA

    train, others = features(), features(seed=0)[:20] + 1
    made = Moments([train]).fit("whiten", 0.0)(others)
    theirs = PCA(whiten=True, svd_solver="full").fit(train).transform(others)
    signs = np.sign((made * theirs).sum(0))
    np.testing.assert_allclose(made, theirs * signs, rtol=1e-6, atol=1e-6)


def test_standardising_is_sklearns():
    from sklearn.preprocessing import StandardScaler

    train, others = features(), features(seed=1)
    made = Moments([train]).fit("standardise")(others)
    theirs = StandardScaler().fit(train).transform(others) * np.sqrt(199 / 200)
    np.testing.assert_allclose(made, theirs, rtol=1e-6)


def test_parts_are_the_whole_and_what_is_broken_is_left_out():
    train = features().reshape(50, 4, 6)  # of patches
    broken = np.full((1, 4, 6), np.nan)
    whole = Moments([train.reshape(-1, 6)]).fit("whiten")
    parts = Moments([train[:7], broken, train[7:]]).fit("whiten")
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(parts.matrix, whole.matrix, rtol=1e-6, atol=1e-9)
    assert Moments([train]).count == 200


def test_the_regulariser_keeps_small_directions_small():
    train = features()
    made = Moments([train]).fit("whiten", 1e-4)(train)
    # The mean variance is about 1e4 / 6: what lies far below 1e-4 of it becomes next to nothing.
    variances = np.linalg.eigvalsh(np.cov(train.T))[::-1]
    expected = variances / (variances + 1e-4 * variances.mean())
    np.testing.assert_allclose(made.var(0, ddof=1), expected, rtol=1e-4, atol=1e-9)
    assert expected[0] > 0.99 and expected[-1] < 0.01


def test_fewer_rows_than_features_and_constant_ones_stay_finite():
    train = features(rows=4, width=50)
    made = Moments([train]).fit("whiten")(features(rows=30, width=50))
    assert np.isfinite(made).all() and np.abs(made).max() < 1e3
    train[:, 0] = 7
    assert not Moments([train]).fit("standardise")(train)[:, 0].any()
    assert np.isfinite(Moments([np.ones((3, 2))]).fit("whiten")(np.ones((1, 2)))).all()


def test_the_type_stays():
    fitted = Moments([features()]).fit("whiten")
    assert fitted(features().astype(np.float16)).dtype == np.float16


def test_what_cannot_be_fitted():
    with pytest.raises(ValueError, match="two images, and there are 1"):
        Moments([np.ones((1, 3))]).fit("whiten")
    with pytest.raises(ValueError, match="'zca' is unknown; known are whiten, standardise"):
        Moments([features()]).fit("zca")

"""Nearest neighbours: exact as by a product of matrices, approximate as well as it says."""

import numpy as np
import pytest

from mae_jax.inference import nearest

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def features():
    """In clusters, as those of images are, far from 0."""
    rng = np.random.default_rng(0)
    middles = np.repeat(rng.standard_normal((60, 16), np.float32), 50, axis=0)
    return 5 + middles + 0.5 * rng.standard_normal(middles.shape, np.float32)


@pytest.mark.parametrize("among", [(0, 3000), (700, 2000)])
def test_exact(features, among):
    vectors = (space := nearest.Space(features))(features)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.abs(vectors.mean(0)).max() < 0.05
    bank = nearest.Bank(vectors, space, 10)
    cosines, rows = bank.nearest(vectors[:10], 5, among)
    right = vectors[:10] @ vectors[slice(*among)].T
    np.testing.assert_allclose(cosines, -np.sort(-right, axis=1)[:, :5], atol=1e-5)
    assert ((rows >= among[0]) & (rows < among[1])).all() and bank.exact and bank.recall == 1


def test_approximate_is_measured_and_kept(tmp_path, features, capsys):
    kept = tmp_path / "index.npz"
    space = nearest.Space(features, kept)
    vectors = space(features)
    bank = nearest.Bank(vectors, space, 10**9, kept, exact=False)
    assert not bank.exact and bank.recall > 0.9 and kept.is_file()
    assert f"finds {bank.recall:.1%} of the 10 nearest of 512 images" in capsys.readouterr().err
    _, true = nearest.Bank(vectors, space, 10).nearest(vectors, 10, (0, 3000))
    _, found = bank.nearest(vectors, 10, (0, 3000))
    recall = (found[:, :, None] == true[:, None]).any(1).mean()
    assert abs(recall - bank.recall) < 0.05
    _, part = bank.nearest(vectors[:50], 5, (100, 900))
    # Less than 5 where the cells that are looked into have no more of these.
    assert ((part == -1) | ((part >= 100) & (part < 900))).all()
    # With more images the same cells are filled anew.
    more = np.concatenate([features, features[:40] + 0.01])
    space = nearest.Space(more, kept)
    nearest.Bank(space(more), space, 10**9, kept, exact=False)
    assert "cells of 3040" not in capsys.readouterr().err
    kept.write_bytes(b"torn")
    space = nearest.Space(more, kept)
    nearest.Bank(space(more), space, 10**9, kept, exact=False)
    assert "cells of 3040" in capsys.readouterr().err


def test_features_that_are_all_the_same(features):
    same = np.repeat(features[:1], 5, axis=0)
    assert np.isfinite(nearest.Space(same)(same)).all()
    assert np.isfinite(nearest.Space(same[:1])(same[:1])).all()

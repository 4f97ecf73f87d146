"""How many directions features use, and how alike two sets of features are."""

import numpy as np


def rankme(features: np.ndarray) -> float:
    """The effective rank of features (B, D): exp of the entropy of their singular values.

    RankMe (Garrido et al. 2023), to compare runs of one method on the same images. It is at most
    the smaller of B and D; NaN of features that are not finite.
    """
    if not np.isfinite(features).all():
        return float("nan")
    lengths = np.linalg.svd(np.asarray(features, np.float64), compute_uv=False)
    shares = lengths / max(lengths.sum(), np.finfo(np.float64).tiny) + 1e-7
    return float(np.exp(-(shares * np.log(shares)).sum()))


def largest_share(features: np.ndarray, directions: int = 1) -> float:
    """The share of the variance between images that the largest directions have, or NaN."""
    if not np.isfinite(features).all():
        return float("nan")
    centred = np.asarray(features, np.float64) - features.mean(0)
    squares = np.square(np.linalg.svd(centred, compute_uv=False))
    return float(squares[:directions].sum() / max(squares.sum(), np.finfo(np.float64).tiny))


def spread(features: np.ndarray) -> float:
    """How much features differ between images: the share of their squared length that is not
    that of their mean."""
    features = np.asarray(features, np.float64)
    whole = np.square(features).sum()
    return float(np.square(features - features.mean(0)).sum() / max(whole, 1e-30))


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Linear CKA (Kornblith et al. 2019) of features (B, D) and (B, E) of the same images.

    1 where one set is the other turned and scaled, near 0 where they have nothing in common.
    """
    a, b = (np.asarray(x, np.float64) - x.mean(0) for x in (one, other))
    # Of many features the products over images are smaller, and the norms are the same.
    a, b = a @ a.T, b @ b.T
    return float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30))

"""Which grid of patches a position table belongs to."""

import math

import numpy as np

from mae_jax.models import patches

_LIKENESS = 0.9  # the least correlation that counts; fine-tuned tables stay close


def seen(table_ND: np.ndarray) -> tuple[int, int] | None:
    """The grid whose sine-cosine positions a table (without class token) follows, or a square."""
    count, width = table_ND.shape
    square = (math.isqrt(count),) * 2 if math.isqrt(count) ** 2 == count else None
    if width % 4:
        return square
    best, found = _LIKENESS, square
    for rows in (n for n in range(1, count + 1) if count % n == 0):
        fixed = patches.sincos_positions((rows, count // rows), width)
        scale = np.linalg.norm(table_ND) * np.linalg.norm(fixed)
        likeness = float((table_ND * fixed).sum() / scale) if scale else 0.0
        if likeness > best:
            best, found = likeness, (rows, count // rows)
    return found

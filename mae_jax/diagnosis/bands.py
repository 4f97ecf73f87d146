"""How much of what patches look like is predicted, coarse and fine."""

from collections.abc import Sequence

import numpy as np
from scipy import fft

NAMES = ("coarse", "middle", "fine")


def explained(
    pred: np.ndarray, true: np.ndarray, patch_size: Sequence[int]
) -> dict[str, tuple[float, float]]:
    """For every band of frequencies in a patch: the share of its variance that is predicted, and
    its share of all variance.

    Frequencies are those of the orthonormal cosine transform, their mean left out, in thirds of
    the highest along one axis.

    Args:
      pred, true: (M, P), hidden patches alone, in the units of the loss.
    """
    shape = (len(true), *patch_size, true.shape[-1] // int(np.prod(patch_size)))
    axes = tuple(range(1, 1 + len(patch_size)))
    left, whole = (
        np.square(fft.dctn(np.asarray(x, np.float64).reshape(shape), axes=axes, norm="ortho")).sum(
            (0, -1)
        )
        for x in (pred - true, true)
    )
    steps = np.meshgrid(*(np.arange(side) / max(side - 1, 1) for side in patch_size), indexing="ij")
    frequency = np.sqrt(sum(np.square(step) for step in steps))
    band = np.clip(np.ceil(frequency * len(NAMES)).astype(int) - 1, -1, len(NAMES) - 1)
    total, found = max(whole[band >= 0].sum(), 1e-30), {}
    for place, name in enumerate(NAMES):
        inside = band == place
        if whole[inside].sum() > 0:
            share = 1 - left[inside].sum() / whole[inside].sum()
            found[name] = float(share), float(whole[inside].sum() / total)
    return found

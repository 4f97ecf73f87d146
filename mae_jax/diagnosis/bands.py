"""How much of what patches look like is predicted, coarse and fine."""

from collections.abc import Sequence

import numpy as np
from scipy import fft

NAMES = ("coarse", "middle", "fine")


def power(patches_MP: np.ndarray, patch_size: Sequence[int]) -> np.ndarray:
    """The squares of every frequency of patches (M, P), summed over patches and channels.

    Frequencies are those of the orthonormal cosine transform.
    """
    channels = patches_MP.shape[-1] // int(np.prod(patch_size))
    x = np.asarray(patches_MP).reshape(len(patches_MP), *patch_size, channels)
    axes = tuple(range(1, 1 + len(patch_size)))
    return np.square(fft.dctn(x, axes=axes, norm="ortho")).sum((0, -1), dtype=np.float64)


def explained(left: np.ndarray, whole: np.ndarray) -> dict[str, tuple[float, float]]:
    """For every band of frequencies in a patch: the share of its variance that is predicted, and
    its share of all variance.

    Bands are thirds of the highest frequency along one axis; the mean is in none.

    Args:
      left, whole: as of `power`, of what predictions lack and of what was to be predicted.
    """
    steps = np.meshgrid(
        *(np.arange(side) / max(side - 1, 1) for side in whole.shape), indexing="ij"
    )
    frequency = np.sqrt(sum(np.square(step) for step in steps))
    band = np.clip(np.ceil(frequency * len(NAMES)).astype(int) - 1, -1, len(NAMES) - 1)
    total, found = max(whole[band >= 0].sum(), 1e-30), {}
    for place, name in enumerate(NAMES):
        inside = band == place
        if whole[inside].sum() > 0:
            share = 1 - left[inside].sum() / whole[inside].sum()
            found[name] = float(share), float(whole[inside].sum() / total)
    return found

"""Predictions of hidden patches that no training is needed for."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from mae_jax.models import patches

_WIDTHS = (0.5, 1.0, 2.0, 4.0)  # of the Gaussians of `smooth`, in patches


def predictions(
    images: np.ndarray, mask_BN: np.ndarray, patch_size: Sequence[int], mean_image: np.ndarray
) -> dict[str, np.ndarray]:
    """By name, patches (B, N, P) as they would be predicted; only the hidden ones mean anything.

    Args:
      images: (B, *spatial, C) standardised.
      mask_BN: 1 where a patch is hidden.
      mean_image: (*spatial, C), of images that are not among these.
    """
    cut = np.asarray(patches.patchify(images, patch_size))
    mean = np.asarray(patches.patchify(mean_image[None], patch_size))
    grid = patches.grid_shape(images.shape[1:-1], patch_size)
    return {
        "mean of the patch": np.broadcast_to(cut.mean(-1, keepdims=True), cut.shape),
        "mean image": np.broadcast_to(mean, cut.shape),
        "nearest visible patch": _nearest(cut, mask_BN, grid),
        "smooth interpolation": _smooth(images, mask_BN, patch_size),
    }


def _nearest(cut, mask_BN, grid):
    places = np.stack([axis.ravel() for axis in np.indices(grid)], -1)
    far = np.square(places[:, None] - places[None]).sum(-1).astype(np.float32)
    distances = np.where(mask_BN[:, None] > 0, np.inf, far[None])  # (B, from, to a visible one)
    return np.take_along_axis(cut, distances.argmin(-1)[..., None], axis=1)


def _smooth(images, mask_BN, patch_size):
    """Means of what is visible, the nearer the heavier: of Gaussians of several widths."""
    spatial = images.shape[1:-1]
    grid = patches.grid_shape(spatial, patch_size)
    visible = np.broadcast_to(
        (1 - mask_BN)[..., None], (*mask_BN.shape, int(np.prod(patch_size)))
    ).astype(np.float32)
    visible = np.asarray(patches.unpatchify(visible, grid, patch_size))
    total, weight = np.zeros_like(images), np.zeros_like(visible)
    for width in _WIDTHS:
        sigma = (0, *(width * side for side in patch_size), 0)
        volume = width ** (2 * len(grid))
        total += ndimage.gaussian_filter(images * visible, sigma, mode="constant") / volume
        weight += ndimage.gaussian_filter(visible, sigma, mode="constant") / volume
    return np.asarray(patches.patchify(total / np.maximum(weight, 1e-20), patch_size))

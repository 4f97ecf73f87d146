"""A sheet of images, each with those whose features are most like its own."""

import numpy as np
from PIL import Image

from mae_jax.pixels import Pixels
from mae_jax.visualize import reconstruction

_IMAGES, _NEAREST = 20, 5


def sheet(images: np.ndarray, features: np.ndarray, count: int, pixels: Pixels) -> Image.Image:
    """Twenty of the first `count` images, a row each, and their nearest among all.

    Args:
      images: (B, H, W, C), as they travel to a device.
      features: (B, D).
    """
    some = np.unique(np.linspace(0, count - 1, _IMAGES).round().astype(int))
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(length, 1e-12)
    near = unit[some] @ unit.T
    near[np.arange(len(some)), some] = -np.inf  # itself
    order = np.argsort(-near, axis=1, kind="stable")[:, : min(_NEAREST, len(images) - 1)]
    shown = pixels.shown(images, like=images)
    columns = {"image": shown[some]}
    columns |= {f"{n + 1}" if n else "nearest": shown[order[:, n]] for n in range(order.shape[1])}
    return reconstruction.panel(columns, side=64)

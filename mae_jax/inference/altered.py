"""Images as a copy of them might be: mirrored, or cropped."""

import numpy as np

from mae_jax.data.resample import Box, resample, resample_with_gaps

MIRRORED, CROPPED = "mirrored", "cropped"
_SIDE = 0.9  # of a crop
_EDGES = 0.025, 0.075  # of which no crop of that side is further away than a quarter of its freedom
# The part of an image that each shows: its side, left and upper edge, in sides of the image.
BOXES = {MIRRORED: (1.0, 0.0, 0.0)} | {
    f"{CROPPED}-{1 + 2 * row + column}": (_SIDE, left, top)
    for row, top in enumerate(_EDGES)
    for column, left in enumerate(_EDGES)
}


def names(kinds: tuple[str, ...]) -> list[str]:
    """Of the ways to alter an image that are of one of these kinds."""
    return [name for name in BOXES if name.partition("-")[0] in kinds]


def alter(images: np.ndarray, how: str | None) -> np.ndarray:
    """(B, H, W, C) altered in one of the ways of `BOXES`, or in none."""
    if how is None:
        return images
    return images[:, :, ::-1] if how == MIRRORED else cropped(images, BOXES[how])


def cropped(images: np.ndarray, box: tuple[float, float, float]) -> np.ndarray:
    """The same part of each, resized to what it was cut from; box as in `BOXES`."""
    height, width = images.shape[1:3]
    side, left, top = box
    whole = (left * width, top * height, side * width, side * height)
    return np.stack([resized(image, whole, (height, width)) for image in images])


def resized(image: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """A part of an image (H, W, C), in pixels, as large as is asked for."""
    gaps = image.dtype != np.uint8 and np.isnan(image).any()
    return (resample_with_gaps if gaps else resample)(np.ascontiguousarray(image), box, size)

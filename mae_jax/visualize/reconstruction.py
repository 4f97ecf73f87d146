"""Panels of masked, reconstructed and original images."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mae_jax.models import patches
from mae_jax.visualize.pixels import picture

HIDDEN = 0.5  # grey
_GAP, _TITLE, _MARGIN = 4, 16, 8


def hide(images: np.ndarray, mask_BN: np.ndarray, patch_size: Sequence[int]) -> np.ndarray:
    """(B, H, W, C) images in 0 to 1 with their hidden patches painted grey."""
    cut = np.array(patches.patchify(images, patch_size))
    cut[mask_BN > 0] = HIDDEN
    grid = patches.grid_shape(images.shape[1:-1], patch_size)
    return np.asarray(patches.unpatchify(cut, grid, patch_size))


def panel(columns: dict[str, np.ndarray], *, across: int = 2, side: int = 96) -> Image.Image:
    """One row of pictures per image, one column per kind, with titles.

    Args:
      columns: title to (B, H, W, C) in 0 to 1; the first three channels are shown, or the first.
      across: how many images stand beside each other in a row.
      side: pictures smaller than this many pixels are enlarged to about it.
    """
    height, width = next(iter(columns.values())).shape[1:3]
    scale = max(1, round(side / min(height, width)))
    h, w = height * scale + _GAP, width * scale + _GAP
    count = len(next(iter(columns.values())))
    across = min(across, count)
    group = len(columns) * w + 3 * _MARGIN
    size = (across * group - 2 * _MARGIN, _TITLE + -(-count // across) * h + _MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for place, (title, images) in enumerate(columns.items()):
        for index, image in enumerate(images):
            row, start = divmod(index, across)
            left = _MARGIN + start * group + place * w
            if row == 0:
                draw.text((left, 2), title, fill="black")
            small = picture(image).resize((width * scale, height * scale), Image.NEAREST)
            sheet.paste(small, (left, _TITLE + row * h))
    return sheet

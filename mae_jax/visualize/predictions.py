"""A sheet of images with what a classifier calls them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mae_jax.visualize.pixels import picture

_SIDE, _GAP, _TITLE, _ACROSS = 120, 8, 18, 8


def sheet(images: np.ndarray, titles: Sequence[str]) -> Image.Image:
    """Images (B, H, W, C) in 0 to 1, eight beside each other, each under its title."""
    across = min(_ACROSS, len(images))
    rows = -(-len(images) // across)
    width, height = _SIDE + _GAP, _SIDE + _TITLE + _GAP
    page = Image.new("RGB", (across * width + _GAP, rows * height + _GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    for place, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(place, across)
        left, top = _GAP + column * width, _GAP + row * height
        while len(title) > 2 and draw.textlength(title, font=font) > _SIDE:
            title = "…" + title[2:]
        draw.text((left, top), title, fill="black", font=font)
        shown = picture(image)
        scale = _SIDE / max(shown.size)
        size = tuple(max(1, round(side * scale)) for side in shown.size)
        how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        page.paste(shown.resize(size, how), (left, top + _TITLE))
    return page

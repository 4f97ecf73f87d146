"""What the encoder sees: patch tokens as colours, and where the class token looks."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mae_jax.visualize.pixels import picture

_GAP, _TITLE = 8, 22
# From dark to bright, so that it reads in print too.
_HEAT = np.array(
    [(0.0, 0.0, 0.1), (0.3, 0.05, 0.45), (0.75, 0.15, 0.35), (0.98, 0.55, 0.1), (1.0, 1.0, 0.65)]
)


def principal_colours(tokens_BND: np.ndarray) -> np.ndarray:
    """The three main directions of all tokens as red, green and blue, (B, N, 3) in 0 to 1.

    Each direction is stretched from its 2nd to its 98th percentile over all images together, so
    that colours can be compared between the images of one picture and not beyond it.
    """
    rows = tokens_BND.reshape(-1, tokens_BND.shape[-1]).astype(np.float64)
    rows = rows - rows.mean(0, keepdims=True)
    _, _, directions = np.linalg.svd(rows, full_matrices=False)
    directions = directions[:3]
    # The sign of a direction is arbitrary: its largest part points up.
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
    values = rows @ (directions * np.sign(largest)).T
    low, high = np.percentile(values, [2, 98], axis=0)
    stretched = np.clip((values - low[None]) / np.maximum(high - low, 1e-12)[None], 0, 1)
    filled = np.zeros((len(rows), 3))
    filled[:, : stretched.shape[1]] = stretched
    return filled.reshape(*tokens_BND.shape[:2], 3)


def heat(values_N: np.ndarray) -> np.ndarray:
    """Numbers as colours, (N, 3) in 0 to 1: from their least (dark) to their largest (bright)."""
    low, high = values_N.min(), values_N.max()
    place = (values_N - low) / max(high - low, 1e-12) * (len(_HEAT) - 1)
    return np.stack([np.interp(place, range(len(_HEAT)), _HEAT[:, c]) for c in range(3)], -1)


def sheet(
    images: np.ndarray,
    tokens_BND: np.ndarray,
    attention_BHN: np.ndarray | None,
    grid: tuple[int, int],
    *,
    side: int = 168,
) -> Image.Image:
    """A row per image: the image, its tokens' colours, the attention of every head.

    Args:
      images: (B, H, W, C) in 0 to 1.
      tokens_BND: patch tokens.
      attention_BHN: of the class token; None without one.
      side: height of a picture in pixels, about.
    """
    height, width = images.shape[1:3]
    h = side
    w = round(side * width / height)
    colours = principal_colours(tokens_BND)
    titles = ["image", "patch tokens, PCA"]
    if attention_BHN is not None:
        titles += [f"attention, head {head + 1}" for head in range(attention_BHN.shape[1])]
    rows = []
    for index, image in enumerate(images):
        row = [_pixels(image, (h, w)), _pixels(colours[index].reshape(*grid, 3), (h, w))]
        if attention_BHN is not None:
            row += [
                _pixels(heat(head_N).reshape(*grid, 3), (h, w)) for head_N in attention_BHN[index]
            ]
        rows.append(row)
    lines = -(-len(titles) // max(2, 1200 // (w + _GAP)))  # of one image
    columns = -(-len(titles) // lines)
    step = h + _TITLE + _GAP
    page = Image.new("RGB", (columns * (w + _GAP) + _GAP, len(rows) * lines * step + _GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for index, row in enumerate(rows):
        for place, (title, shown) in enumerate(zip(titles, row, strict=True)):
            line, column = divmod(place, columns)
            left, top = _GAP + column * (w + _GAP), _GAP + (index * lines + line) * step
            draw.text((left, top), title, fill="black", font=font)
            page.paste(shown, (left, top + _TITLE - 2))
    return page


def _pixels(values, size):
    shown = picture(values)
    how = Image.Resampling.NEAREST if shown.width < size[1] else Image.Resampling.LANCZOS
    return shown.resize((size[1], size[0]), how)

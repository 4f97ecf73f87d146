"""Crops and flips, on Pillow images, with resampling as in the reference: antialiased bicubic."""

import math

import numpy as np
from PIL import Image

Picture = Image.Image | np.ndarray


def random_resized_crop(
    image: Picture,
    size: tuple[int, int],
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Picture:
    """A random part of the image, resized (Szegedy et al. 2015, as torchvision spells it).

    Args:
      size: height and width of the result.
      scale: area of the part as a share of the image's.
      ratio: width over height of the part, drawn on a logarithmic scale.

    Ten tries to draw a part that fits; else the largest central one of an allowed ratio.
    """
    height, width = dimensions(image)
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(0, width - w + 1))
            top = int(rng.integers(0, height - h + 1))
            return resize(crop(image, left, top, w, h), size)
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    return resize(crop(image, (width - w) // 2, (height - h) // 2, max(w, 1), max(h, 1)), size)


def centre_crop(image: Picture, size: tuple[int, int], share: float) -> Picture:
    """The middle of the image: `share` of the largest part with the aspect of `size`.

    For squares this is the usual evaluation crop: resize the shorter side to size / share, then
    cut out the middle.
    """
    height, width = dimensions(image)
    enlarge = min(height / size[0], width / size[1]) * share
    h, w = max(1, round(size[0] * enlarge)), max(1, round(size[1] * enlarge))
    return resize(crop(image, (width - w) // 2, (height - h) // 2, w, h), size)


def mirror(image: Picture) -> Picture:
    """Left and right swapped."""
    if isinstance(image, np.ndarray):
        return image[:, ::-1]
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def dimensions(image: Picture) -> tuple[int, int]:
    """Height and width in pixels."""
    return image.shape[:2] if isinstance(image, np.ndarray) else (image.height, image.width)


def crop(image: Picture, left: int, top: int, width: int, height: int) -> Picture:
    """A part of the image."""
    if isinstance(image, np.ndarray):
        return image[top : top + height, left : left + width]
    return image.crop((left, top, left + width, top + height))


def resize(image: Picture, size: tuple[int, int]) -> Picture:
    """Antialiased bicubic resampling to (height, width); channels one by one where not RGB."""
    if dimensions(image) == tuple(size):
        return image
    if isinstance(image, np.ndarray):
        channels = [Image.fromarray(image[..., c]) for c in range(image.shape[-1])]
        return np.stack([np.asarray(resize(channel, size)) for channel in channels], axis=-1)
    return image.resize((size[1], size[0]), Image.Resampling.BICUBIC)


def pixels(image: Picture) -> np.ndarray:
    """(H, W, C) uint8."""
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array

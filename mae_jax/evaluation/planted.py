"""Copies of images whose originals are known: what a search for copies is measured on."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from mae_jax.data.resample import resample

QUALITIES = (40, 91)  # of JPEG, between which one is drawn
SIDE = 0.9  # of a crop, in sides of the image
DARKER, BRIGHTER = (0.6, 0.85), (1.15, 1.4)  # factors of brightness


def jpeg(image: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Saved as JPEG and read again; None for what JPEG does not hold."""
    channels = image.shape[-1]
    if image.dtype != np.uint8 or channels not in (1, 3):
        return None
    held, quality = io.BytesIO(), int(rng.integers(*QUALITIES))
    Image.fromarray(image[..., 0] if channels == 1 else image).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held)).reshape(image.shape)


def crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nine tenths of its sides, anywhere, enlarged to the image's size."""
    height, width = image.shape[:2]
    left, top = rng.uniform(0, 1 - SIDE, 2)
    box = (left * width, top * height, SIDE * width, SIDE * height)
    return resample(np.ascontiguousarray(image), box, (height, width))


def mirror(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Left for right."""
    del rng
    return np.ascontiguousarray(image[:, ::-1])


def brightness(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darker or brighter; what uint8 does not hold is cut off."""
    factor = rng.uniform(*(DARKER, BRIGHTER)[rng.integers(2)])
    if image.dtype != np.uint8:
        return (image * np.float32(factor)).astype(image.dtype)
    return np.clip(image * factor, 0, 255).round().astype(np.uint8)


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray | None]] = {
    "jpeg": jpeg,
    "crop": crop,
    "mirror": mirror,
    "brightness": brightness,
}

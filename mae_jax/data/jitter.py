"""Colour jitter: brightness, contrast and saturation, each changed at random (paper, table 1e)."""

import dataclasses

import numpy as np
from PIL import Image, ImageEnhance

_KINDS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@dataclasses.dataclass(frozen=True)
class ColourJitter:
    """Multiplies each of them by a factor, one after the other in a random order, as torchvision.

    Attributes:
      strength: factors are uniform in 1 - strength to 1 + strength.
    """

    strength: float

    def on_pixels(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(H, W, C) uint8 to the same; three channels, or one, which has no saturation."""
        factors = rng.uniform(1 - self.strength, 1 + self.strength, len(_KINDS))
        order = rng.permutation(len(_KINDS))
        grey = pixels.shape[-1] == 1
        image = Image.fromarray(pixels[..., 0] if grey else pixels)
        for kind in order:
            if not (grey and _KINDS[kind] is ImageEnhance.Color):
                image = _KINDS[kind](image).enhance(factors[kind])
        return np.asarray(image).reshape(pixels.shape)

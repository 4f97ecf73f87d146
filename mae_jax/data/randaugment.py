"""RandAugment (Cubuk et al. 2019) with timm's operations that grow with the magnitude.

What timm spells `rand-m9-mstd0.5-inc1`: of fifteen operations two are drawn for an image, each is
carried out half of the time, at a magnitude drawn from a normal distribution and clipped to 0..10.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

LARGEST = 10.0


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Draws operations for an image and carries them out.

    Attributes:
      operations: how many are drawn for an image; the same one may come twice.
      magnitude: mean strength, 0 to 10.
      deviation: standard deviation of the strength.
      share: how often a drawn operation is carried out.
      fill: a value per channel, 0 to 255, for what comes in from outside the image.
    """

    operations: int
    magnitude: float
    deviation: float
    share: float
    fill: tuple[int, ...]

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """An augmented image of the same size; mode L or RGB."""
        names = tuple(OPERATIONS)
        for index in rng.integers(len(names), size=self.operations):
            if rng.random() >= self.share:
                continue
            level = min(max(rng.normal(self.magnitude, self.deviation), 0.0), LARGEST) / LARGEST
            sign = 1 if rng.random() < 0.5 else -1
            image = OPERATIONS[names[index]](image, level, sign, self._fill(image))
        return image

    def on_pixels(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The same for (H, W, C) uint8, one channel or three."""
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        return np.asarray(self(image, rng)).reshape(pixels.shape)

    def _fill(self, image):
        return self.fill[0] if image.mode == "L" else tuple(self.fill)


Operation = Callable[[Image.Image, float, int, int | tuple[int, ...]], Image.Image]


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    def apply(image, level, sign, fill):
        # 1 changes nothing: stronger is further from it, either way.
        return kind(image).enhance(max(0.1, 1 + sign * 0.9 * level))

    return apply


def _affine(matrix: Callable[[float, Image.Image], tuple[float, ...]]) -> Operation:
    def apply(image, level, sign, fill):
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            matrix(sign * level, image),
            resample=Image.Resampling.BICUBIC,
            fillcolor=fill,
        )

    return apply


def _rotate(image, level, sign, fill):
    degrees = sign * level * 30
    return image.rotate(degrees, resample=Image.Resampling.BICUBIC, fillcolor=fill)


def _posterize(image, level, sign, fill):
    # Pillow refuses to keep no bits at all, which is black.
    mask = 0xFF & ~((1 << (4 + int(level * 4))) - 1)
    return image.point([value & mask for value in range(256)] * len(image.getbands()))


def _solarize(image, level, sign, fill):
    return ImageOps.solarize(image, 256 - min(256, int(level * 256)))


def _solarize_add(image, level, sign, fill):
    add = min(128, int(level * 110))
    table = [min(255, value + add) if value < 128 else value for value in range(256)]
    return image.point(table * len(image.getbands()))


# All take the strength as a share of the largest, and the sign that half of them need.
OPERATIONS: dict[str, Operation] = {
    "AutoContrast": lambda image, level, sign, fill: ImageOps.autocontrast(image),
    "Equalize": lambda image, level, sign, fill: ImageOps.equalize(image),
    "Invert": lambda image, level, sign, fill: ImageOps.invert(image),
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": _enhance(ImageEnhance.Color),
    "Contrast": _enhance(ImageEnhance.Contrast),
    "Brightness": _enhance(ImageEnhance.Brightness),
    "Sharpness": _enhance(ImageEnhance.Sharpness),
    "ShearX": _affine(lambda s, image: (1, 0.3 * s, 0, 0, 1, 0)),
    "ShearY": _affine(lambda s, image: (1, 0, 0, 0.3 * s, 1, 0)),
    "TranslateX": _affine(lambda s, image: (1, 0, 0.45 * s * image.width, 0, 1, 0)),
    "TranslateY": _affine(lambda s, image: (1, 0, 0, 0, 1, 0.45 * s * image.height)),
}

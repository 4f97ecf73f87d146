"""What a network is given: described once, saved with its weights, read there by every verb."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import config_dict

from mae_jax.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
KINDS = ("uint8", "float32")
# A small file can claim to be a huge picture; its header is believed before it is decoded.
MAX_PIXELS = 50_000_000
NODATA = ("nan", "alpha", "gdal")  # beside numbers
_RECIPE_SIDE = 224  # up to which the published evaluation crops; larger images are taken whole
NO_STATISTICS = (
    "pixels of kind 'float32' need a mean and a deviation in the images' own units: set data.mean "
    "and data.std to what `mae-jax data stats` measures with the same --config"
)


@dataclasses.dataclass(frozen=True)
class Pixels:
    """From images of any size to what a network computes with.

    Attributes:
      size: height and width in pixels.
      channels: values per pixel.
      kind: "uint8", or "float32", which keeps 16-bit and float values: unsigned integers as a share
        of their range, others in their own units.
      mean, std: per channel, that images are standardised with: of values in 0 to 1 for uint8, in
        the images' units for float32. One value stands for all channels; none, for uint8, is
        ImageNet's where there are three, and .5 elsewhere.
      crop: the central part that evaluation sees, as a share of the shorter side; by default .875
        for sizes up to 224 pixels and all of it above, as the published evaluation has it.
      max_pixels: height times width above which an image counts as broken.
      nodata: which pixels have no data: "nan", those of that value alone; "alpha", transparent
        ones, too; "gdal", those of the value that GDAL's tag in a TIFF says; or a number, as text,
        that all their channels have. They travel as NaN, so that the kind is float32. None: there
        are none.

    Raises:
      UsageError: mean or deviation of another number of channels; float32 without them, which
        nothing but the images can say; or no data in uint8.
    """

    size: tuple[int, ...]
    channels: int = 3
    kind: str = "uint8"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    crop: float | None = None
    max_pixels: int = MAX_PIXELS
    nodata: str | None = None

    def __post_init__(self):
        settled: dict[str, Any] = {"size": tuple(self.size)}
        if self.nodata is not None and not self.floats:
            raise UsageError(nodata_needs_floats(self.nodata, self.kind))
        if self.floats and not (len(self.mean) and len(self.std)):
            raise UsageError(NO_STATISTICS)
        rgb = self.channels == 3
        for name, usual in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            values = tuple(float(v) for v in getattr(self, name)) or (usual if rgb else (0.5,))
            if len(values) not in (1, self.channels):
                raise UsageError(
                    f"{name} {values} must have one value per channel, {self.channels} of them"
                )
            settled[name] = values * self.channels if len(values) == 1 else values
        if self.crop is None:
            settled["crop"] = _usual_crop(self.size)
        for name, value in settled.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_config(cls, config) -> "Pixels":
        """As a config's sections `model` and `data` say."""
        data, sides = config.data, sides_of(config)
        return cls(
            size=(sides[0], sides[-1]),
            channels=config.model.channels or 3,
            kind=data.pixels or "uint8",
            mean=tuple(data.mean),
            std=tuple(data.std),
            crop=data.eval_crop,
            max_pixels=data.max_pixels,
            nodata=data.nodata,
        )

    def resized(self, size: tuple[int, ...]) -> "Pixels":
        """For images of another size; a crop that is the usual one is the usual one there too."""
        crop = None if self.crop == _usual_crop(self.size) else self.crop
        return dataclasses.replace(self, size=size, crop=crop)

    @property
    def floats(self) -> bool:
        """Whether images are float32."""
        return self.kind == "float32"

    def settings(self) -> dict[str, Any]:
        """What weights carry along, besides size and channels; as JSON can hold it."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "pixels": self.kind,
            "crop": self.crop,
            "max_pixels": self.max_pixels,
            "nodata": self.nodata,
        }

    def standardise(self, images):
        """Images as they travel to a device, to float32 of zero mean and unit deviation.

        Where there is no data stands the mean, 0.

        Args:
          images: (…, C) uint8; or float32 in the units of mean and deviation. The last axis may
            hold the channels of several pixels, as that of patches does.
        """
        import jax.numpy as jnp

        shape, repeats = (1,) * (images.ndim - 1) + (-1,), images.shape[-1] // self.channels
        mean, std = (
            jnp.tile(jnp.asarray(v, jnp.float32), repeats).reshape(shape)
            for v in (self.mean, self.std)
        )
        standard = (self.in_units(images) - mean) / std
        return standard if self.nodata is None else jnp.where(jnp.isnan(standard), 0, standard)

    def known(self, images):
        """Which values of images, or of patches, as they travel have data; None: all."""
        import jax.numpy as jnp

        return None if self.nodata is None else ~jnp.isnan(images)

    def in_units(self, images):
        """Images as they travel to a device, float32 in the units of mean and deviation.

        For uint8 that is 0 to 1.
        """
        import jax.numpy as jnp  # not above: data workers have no use for jax

        values = images / jnp.float32(255) if images.dtype == jnp.uint8 else images
        return values.astype(jnp.float32)

    def restored(self, standard):
        """Standardised images (…, C) back in the units of mean and deviation."""
        import jax.numpy as jnp

        shape = (1,) * (standard.ndim - 1) + (-1,)
        mean, std = (jnp.asarray(v, jnp.float32).reshape(shape) for v in (self.mean, self.std))
        return standard * std + mean

    def shown(self, images: np.ndarray, like: np.ndarray) -> np.ndarray:
        """Images in 0 to 1, to look at, float32.

        Values of uint8 images have that range by themselves. Others are stretched, channel by
        channel, from the 1st to the 99th percentile of `like`, so that pictures that belong
        together get the same scale. Black is where `like` has no data.

        Args:
          images: (B, H, W, C) uint8, or in the units of mean and deviation.
          like: the originals, likewise.
        """
        images, like = (_values(x) for x in (images, like))
        if not self.floats:
            return np.clip(images, 0, 1)
        without, axes = np.isnan(like), tuple(range(like.ndim - 1))
        measured = np.where(without.all(axes), 0, like)  # a channel without any data
        low, high = np.nanpercentile(measured, [1, 99], axis=axes, keepdims=True)
        stretched = (images - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
        return np.where(without, 0, np.clip(stretched, 0, 1)).astype(np.float32)


def nodata_needs_floats(nodata: str, kind: str | None) -> str:
    """What to say where pixels without data are asked for, and uint8 cannot mark them."""
    return (
        f"data.nodata {nodata!r} needs data.pixels='float32', in which NaN marks pixels without "
        f"data, and it is {kind or 'uint8'!r}; unsigned integers are then a share of their range"
    )


def is_nodata(text: str) -> bool:
    """Whether `Pixels.nodata` may be that."""
    if text in NODATA:
        return True
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _usual_crop(size):
    return 0.875 if max(size) <= _RECIPE_SIDE else 1.0


def _values(images):
    images = np.asarray(images)
    return images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)


def same_values(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two means, or two deviations, are the same; one value stands for all channels."""
    a, b = (np.asarray(values, np.float32) for values in (one, other))
    return (len(a) == len(b) or 1 in (len(a), len(b))) and bool((a == b).all())


def sides_of(config) -> tuple[int, ...]:
    """Height and width of a config's images, or the one side of squares, in pixels."""
    return tuple(config.model.image_size or (_RECIPE_SIDE,))


def settle(config) -> None:
    """Writes into a config what it leaves open about pixels, so that its record says all."""
    pixels, data = Pixels.from_config(config), config.data
    config.model.image_size = sides_of(config)
    data.pixels, data.eval_crop, data.nodata = pixels.kind, pixels.crop, pixels.nodata
    data.mean, data.std = pixels.mean, pixels.std


def settled(config: dict[str, Any]) -> dict[str, Any]:
    """A run's config with its pixels settled, though it may be of a time when records were not."""
    config = config_dict.ConfigDict(config)
    settle(config)
    return config.to_dict()

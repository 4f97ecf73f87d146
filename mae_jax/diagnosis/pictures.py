"""What images are like, before any model: blank, noise, one many times, of other brightness."""

import dataclasses

import numpy as np

from mae_jax.pixels import Pixels

_BLANK = 0.02  # deviation within an image, of that of the pixels, below which it shows nothing


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Some images of a source.

    Attributes:
      images: how many were looked at, unreadable ones not among them.
      broken: the share of those looked for that could not be read.
      blank: the share that shows one colour.
      repeated: the share that is there before, pixel for pixel.
      neighbours: correlation of adjacent pixels; of noise, none.
      alike: the share of the variance of pixels that is that of the mean image.
      shift: how far their mean is from the one that the model is given, in deviations.
      scale: their deviation over that one.
      classes: how many of the source's classes are among them; None where it has fewer than two.
      only_class: whether the source has one class alone, which may be a folder that is no class.
    """

    images: int
    broken: float
    blank: float
    repeated: float
    neighbours: float
    alike: float
    shift: float
    scale: float
    classes: int | None
    only_class: bool = False


def look(
    images: np.ndarray, sound: np.ndarray, labels: np.ndarray, pixels: Pixels, classes: int
) -> Pictures:
    """The facts of images (B, H, W, C), as they travel to a device.

    Args:
      sound: (B,), False where an image could not be read.
      labels: (B,), -1 where there is none.
      classes: that the source has, or 0.
    """
    standard = np.asarray(pixels.standardise(images[sound]), np.float32)
    count, broken = len(standard), float(1 - sound.mean()) if len(sound) else 0.0
    if not count:
        return Pictures(0, broken, 0, 0, 1, 0, 0, 1, None)
    axes = tuple(range(1, standard.ndim - 1))
    deviations = standard.std(axes).max(-1)
    known = np.ones(standard.shape, bool)
    if pixels.nodata is not None:
        known = np.asarray(pixels.known(images[sound]))
    told = labels[sound][labels[sound] >= 0]
    digests = {image.tobytes() for image in images[sound]}
    mean, std = _moments(standard, known)
    return Pictures(
        images=count,
        broken=broken,
        blank=float((deviations < _BLANK).mean()),
        repeated=1 - len(digests) / count,
        neighbours=_neighbours(standard),
        alike=float(
            np.square(standard.mean(0) - standard.mean()).mean() / max(standard.var(), 1e-12)
        ),
        shift=float(np.abs(mean).max()),
        scale=float(std.max()) if std.max() > 1 else float(std.min()),
        classes=len(np.unique(told)) if classes > 1 and len(told) else None,
        only_class=classes == 1,
    )


def _moments(standard, known):
    axes = tuple(range(standard.ndim - 1))
    count = np.maximum(known.sum(axes), 1)
    mean = np.where(known, standard, 0).sum(axes) / count
    return mean, np.sqrt(np.where(known, np.square(standard - mean), 0).sum(axes) / count)


def _neighbours(standard):
    """Within images, so that their brightness does not count."""
    centred = standard - standard.mean(tuple(range(1, standard.ndim - 1)), keepdims=True)
    power = np.square(centred).mean()
    if power < 1e-8:
        return 1.0
    return float(
        np.mean(
            [
                (centred[:, 1:] * centred[:, :-1]).mean(),
                (centred[:, :, 1:] * centred[:, :, :-1]).mean(),
            ]
        )
        / power
    )

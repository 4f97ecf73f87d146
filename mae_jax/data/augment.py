"""Which part of an image is seen: random and central boxes, as in the reference."""

import math

import numpy as np

Box = tuple[int, int, int, int]  # left, top, width, height in pixels


def random_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """A random part of an image (Szegedy et al. 2015, as torchvision spells it).

    Args:
      height, width: of the image.
      scale: area of the part as a share of the image's.
      ratio: width over height of the part, drawn on a logarithmic scale.

    Ten tries to draw a part that fits; else the largest central one of an allowed ratio.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(0, width - w + 1))
            top = int(rng.integers(0, height - h + 1))
            return left, top, w, h
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = max(min(width, round(height * aspect)), 1), max(min(height, round(width / aspect)), 1)
    return (width - w) // 2, (height - h) // 2, w, h


def resized_side(side: int, share: float) -> int:
    """What the published evaluation resizes to, for its middle `side` pixels to be this share."""
    # Rounded down, but not where the share is itself such a quotient and its rounding shows.
    return int(side / share + 1e-6)


def central_box(
    height: int, width: int, size: tuple[int, int], share: float
) -> tuple[float, float, float, float]:
    """The middle of an image, as the published evaluation cuts it out, in fractions of pixels.

    That evaluation resizes the shorter side to size / share and cuts `size` out of the middle of
    the whole pixels that result. This is where they come from in the image as it was. For sizes
    that are not square the side counts that is the shorter one beside `size`.

    Args:
      height, width: of the image.
      size: height and width of the view.
      share: of the shorter side that is seen.

    Returns:
      left, top, width, height.
    """
    tall, long = _resized(height, width, size, share)
    left, top = round((long - size[1]) / 2), round((tall - size[0]) / 2)  # as torchvision does
    return _in_the_original(height, width, size, (tall, long), (left, top))


def fixed_box(
    height: int, width: int, size: tuple[int, int], share: float, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """As `central_box`, cut out at a random place: a crop of fixed size."""
    tall, long = _resized(height, width, size, share)
    left, top = (int(rng.integers(0, w - s + 1)) for w, s in ((long, size[1]), (tall, size[0])))
    return _in_the_original(height, width, size, (tall, long), (left, top))


def _resized(height, width, size, share):
    """Height and width that an image is resized to before a part of `size` is cut out."""
    # Rounded down, as torchvision does.
    if height * size[1] <= width * size[0]:
        tall = resized_side(size[0], share)
        long = tall * width // height
    else:
        long = resized_side(size[1], share)
        tall = long * height // width
    return tall, long


def _in_the_original(height, width, size, resized, place):
    """Where a part at (left, top) of the resized image comes from."""
    (tall, long), (left, top) = resized, place
    return (
        left * width / long,
        top * height / tall,
        size[1] * width / long,
        size[0] * height / tall,
    )


def mirror(pixels: np.ndarray) -> np.ndarray:
    """(H, W, C) with left and right swapped."""
    made = np.empty_like(pixels)
    for channel in range(pixels.shape[-1]):  # several times as fast as all at once
        made[..., channel] = pixels[:, ::-1, channel]
    return made

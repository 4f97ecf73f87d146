"""Bytes to pixels, of no more than what is asked for; says which record is broken and why.

Grey, palette, CMYK and 16-bit images become what is asked for, alpha is dropped, the first frame of
an animation is taken, and EXIF orientation is ignored, as in the reference.
"""

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import simplejpeg
from PIL import Image as Pillow

from mae_jax.data import arrays
from mae_jax.data.resample import Box, resample
from mae_jax.errors import BrokenRecord
from mae_jax.pixels import MAX_PIXELS

_FINER = 3  # pixels decoded per pixel shown, at least, where a view is to be as published
_JPEG = b"\xff\xd8\xff"
# Pillow knows many more, and for some of them, such as PostScript, it starts programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@dataclasses.dataclass(frozen=True)
class Form:
    """What pixels are to be.

    Attributes:
      channels: values per pixel.
      floats: float32 instead of uint8: integers over their range, floats as they are.
      max_pixels: height times width that a header may say.
    """

    channels: int
    floats: bool = False
    max_pixels: int = MAX_PIXELS


class Image(Protocol):
    """An opened image.

    Attributes:
      height, width: in pixels.
    """

    height: int
    width: int

    def views(
        self, boxes: Sequence[Box], size: tuple[int, int], *, around: bool = False
    ) -> list[np.ndarray]:
        """Each of these parts of the image resized, (*size, C); `around` as in `resample`.

        Raises:
          BrokenRecord: it cannot be decoded.
        """
        ...


class Pixels:
    """A decoded image.

    Args:
      pixels: (H, W, C) uint8 or float32.
    """

    def __init__(self, pixels: np.ndarray):
        self.pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def views(
        self, boxes: Sequence[Box], size: tuple[int, int], *, around: bool = False
    ) -> list[np.ndarray]:
        return [resample(self.pixels, box, size, around=around) for box in boxes]


class Jpeg:
    """A JPEG file that is decoded when a view is asked for, and then only as finely as needed.

    The decoder leaves out frequencies that the view would not show: it shrinks by 2, 4 or 8 where
    every box stays at least as large as the view. With `around` it has to stay three times as
    large, so that the filter decides what is left out: on average it then differs by 0.3 of 255
    from the whole image resized, instead of 1 to 2, for a fifth to a third more time where an image
    is so much larger than the view.
    """

    def __init__(self, data: bytes, height: int, width: int, form: Form, name: str):
        self._data, self._form, self._name = data, form, name
        self.height, self.width = height, width

    def views(
        self, boxes: Sequence[Box], size: tuple[int, int], *, around: bool = False
    ) -> list[np.ndarray]:
        shrink, finer = 1, 2 * _FINER if around else 2
        while shrink < 8 and all(
            box[2] >= finer * shrink * size[1] and box[3] >= finer * shrink * size[0]
            for box in boxes
        ):
            shrink *= 2
        try:
            pixels = simplejpeg.decode_jpeg(
                self._data,
                "GRAY" if self._form.channels == 1 else "RGB",
                min_height=-(-self.height // shrink),
                min_width=-(-self.width // shrink),
                min_factor=shrink,
            )
        except ValueError:
            # Harmless damage, such as a missing end mark, is a matter of judgement: Pillow's.
            pixels, shrink = _with_pillow(self._data, self._form, self._name), 1
        if self._form.floats and pixels.dtype == np.uint8:
            pixels = pixels / np.float32(255)
        whole = [tuple(value / shrink for value in box) if shrink > 1 else box for box in boxes]
        return [resample(pixels, box, size, around=around) for box in whole]


def open_image(data: bytes | np.ndarray, form: Form, name: str) -> Image:
    """Opens an image, decoding what cannot be decoded in part.

    Args:
      data: an encoded image; the bytes of an .npy or .npz file; or an array (H, W) or (H, W, C).
      form: what its pixels are to be.
      name: what to call the record in errors.

    Raises:
      BrokenRecord: it cannot be read as such.
    """
    if isinstance(data, np.ndarray):
        return Pixels(arrays.convert(data, form.channels, form.floats, name))
    if arrays.is_array(data):
        return Pixels(arrays.read(data, form.channels, form.floats, form.max_pixels, name))
    if form.channels in (1, 3) and is_jpeg(data):
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            space = "unknown"
        if space in ("YCbCr", "Gray", "RGB"):
            _check_size(height, width, form, name)
            return Jpeg(data, height, width, form, name)
    return Pixels(_with_pillow(data, form, name))


def is_jpeg(data: bytes) -> bool:
    """Whether these bytes begin as a JPEG file's do."""
    return data[:3] == _JPEG


def decode(data: bytes | np.ndarray, form: Form, name: str) -> np.ndarray:
    """All pixels of an image, (H, W, C) uint8 or float32; as `open_image` otherwise."""
    image = open_image(data, form, name)
    if isinstance(image, Pixels):
        return image.pixels
    size = (image.height, image.width)
    return image.views([(0, 0, image.width, image.height)], size)[0]


@contextlib.contextmanager
def opened_with_pillow(data: bytes, name: str) -> Iterator[Pillow.Image]:
    """An image of a known format, by its content, of which nothing but the header was read yet.

    Raises:
      BrokenRecord: it is of none, or it cannot be decoded inside the `with`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are checked here, and of odd metadata
            yield Pillow.open(io.BytesIO(data), formats=_FORMATS)
    except BrokenRecord:
        raise
    except Pillow.UnidentifiedImageError:
        reason = f"is none of {', '.join(_FORMATS)}, or cut short" if data else "is empty"
        raise BrokenRecord(f"{name}: {reason}") from None
    except Exception as error:  # damaged bytes may end a decoder anywhere
        kind = "" if isinstance(error, OSError | ValueError | SyntaxError) else type(error).__name__
        raise BrokenRecord(f"{name}: {' '.join(filter(None, (kind, str(error))))}") from None


def _check_size(height, width, form, name):
    if height * width > form.max_pixels:
        raise BrokenRecord(f"{name}: {width} x {height} pixels are more than {form.max_pixels}")


def _with_pillow(data, form, name) -> np.ndarray:
    with opened_with_pillow(data, name) as image:
        _check_size(image.height, image.width, form, name)
        pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        if pages > 1 and pages == form.channels:
            return _stacked(image, pages, form, name)
        image.load()
        return _of_mode(image, form, name)


def _stacked(image, pages, form, name):
    """The pages of a TIFF file as channels."""
    planes = []
    for page in range(pages):
        image.seek(page)
        _check_size(image.height, image.width, form, name)
        planes.append(np.asarray(image))
    if len({plane.shape for plane in planes}) > 1 or planes[0].ndim != 2:
        raise BrokenRecord(f"{name}: its {pages} pages are not grey images of one size")
    return arrays.convert(np.stack(planes, axis=-1), form.channels, form.floats, name)


def _of_mode(image, form, name):
    if form.channels not in _MODES:
        raise BrokenRecord(
            f"{name}: an image of mode {image.mode} has 1 to 4 channels, not {form.channels}"
        )
    if image.mode == "F" or image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values to 255 instead of scaling them.
        grey = np.asarray(image)
        if image.mode == "I" and grey.size and grey.min() >= 0 and grey.max() < 2**16:
            grey = grey.astype(np.uint16)
        grey = arrays.convert(grey, 1, form.floats, name)
        if form.channels in (1, 3):
            return np.repeat(grey, form.channels, axis=-1)
        raise BrokenRecord(f"{name}: a grey image cannot have {form.channels} channels")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    mode = _MODES[form.channels]
    if form.channels in (2, 4) and image.mode != mode:
        raise BrokenRecord(f"{name}: mode {image.mode}, expected {form.channels} channels, {mode}")
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    return arrays.convert(pixels, form.channels, form.floats, name)

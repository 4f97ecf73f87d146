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

from mae_jax.data import arrays, large
from mae_jax.data.form import Form
from mae_jax.data.resample import Box, resample, resample_with_gaps
from mae_jax.errors import BrokenRecord

_FINER = 3  # pixels decoded per pixel shown, at least, where a view is to be as published
_GDAL_NODATA = 42113  # a tag of TIFF files
_JPEG = b"\xff\xd8\xff"
# Pillow knows many more, and for some of them, such as PostScript, it starts programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


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

    def moved(self, box: Box, rng: np.random.Generator) -> Box:
        """What training sees in place of a part: of a window, one beside it."""
        del rng
        return box


class Pixels(Image):
    """A decoded image.

    Args:
      pixels: (H, W, C) uint8 or float32.
      gaps: whether some may be NaN, having no data.
    """

    def __init__(self, pixels: np.ndarray, gaps: bool = False):
        self.pixels, self._gaps = pixels, gaps and bool(np.isnan(pixels).any())
        self.height, self.width = pixels.shape[:2]

    def views(
        self, boxes: Sequence[Box], size: tuple[int, int], *, around: bool = False
    ) -> list[np.ndarray]:
        resized = resample_with_gaps if self._gaps else resample
        return [resized(self.pixels, box, size, around=around) for box in boxes]


class Jpeg(Image):
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
        shrink = max(by for by in (1, 2, 4, 8) if by == 1 or _fine(boxes, size, by, around))
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


class Seen(Image):
    """A window of a large file, of which what a view needs is read when it is asked for.

    Where the file has smaller copies of its image, a view is made of the smallest that is as fine
    as a JPEG file would be decoded.
    """

    def __init__(self, window: large.Window, form: Form, name: str):
        self._window, self._form, self._name = window, form, name
        self.height, self.width = window.box.height, window.box.width

    def views(
        self, boxes: Sequence[Box], size: tuple[int, int], *, around: bool = False
    ) -> list[np.ndarray]:
        path, name = self._window.path, self._name
        copies = enumerate(large.levels(path, self._form, name))
        fine = [(by, level) for level, by in copies if _fine(boxes, size, by, around)]
        by, level = max(fine, default=(1, None))
        made = []
        for x, y, width, height in boxes:
            left, top = self._window.box.left + x, self._window.box.top + y
            wide = left, top, width, height
            if around:
                # As far as the filter reaches, and a pixel more.
                across = 2 * max(width / size[1], by) + by
                down = 2 * max(height / size[0], by) + by
                wide = left - across, top - down, width + 2 * across, height + 2 * down
            found = large.read(path, wide, self._form, name, level)
            inside = (
                left * found.across - found.left,
                top * found.down - found.top,
                width * found.across,
                height * found.down,
            )
            part = Pixels(found.pixels, gaps=self._form.nodata is not None)
            made += part.views([inside], size, around=around)
        return made

    def moved(self, box: Box, rng: np.random.Generator) -> Box:
        """Half a window away, at most, and inside the image."""
        (left, top, width, height), whole = self._window.box, self._window.image
        x, y = (
            int(rng.integers(max(at - side // 2, 0), min(at + side // 2, most - side) + 1)) - at
            for at, side, most in ((left, width, whole[0]), (top, height, whole[1]))
        )
        return (box[0] + x, box[1] + y, *box[2:])


def open_image(data: bytes | np.ndarray | large.Window, form: Form, name: str) -> Image:
    """Opens an image, decoding what cannot be decoded in part.

    Args:
      data: an encoded image; the bytes of an .npy or .npz file; an array (H, W) or (H, W, C); or
        a window of a large file.
      form: what its pixels are to be.
      name: what to call the record in errors.

    Raises:
      BrokenRecord: it cannot be read as such.
    """
    if isinstance(data, large.Window):
        return Seen(data, form, name)
    gaps = form.nodata is not None
    if isinstance(data, np.ndarray):
        return Pixels(arrays.convert(data, form, name), gaps)
    if arrays.is_array(data):
        return Pixels(arrays.read(data, form, name), gaps)
    if form.channels in (1, 3) and is_jpeg(data) and not form.exact:
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            space = "unknown"
        if space in ("YCbCr", "Gray", "RGB"):
            _check_size(height, width, form, name)
            return Jpeg(data, height, width, form, name)
    return Pixels(_with_pillow(data, form, name), gaps)


def is_jpeg(data: bytes) -> bool:
    """Whether these bytes begin as a JPEG file's do."""
    return data[:3] == _JPEG


def _fine(boxes: Sequence[Box], size: tuple[int, int], by: int, around: bool) -> bool:
    """Whether an image that is smaller by a factor is fine enough for views of these boxes."""
    finer = (_FINER if around else 1) * by
    return all(box[2] >= finer * size[1] and box[3] >= finer * size[0] for box in boxes)


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
    tag = _tag(image, form, name)
    if len({plane.shape for plane in planes}) > 1 or planes[0].ndim != 2:
        raise BrokenRecord(f"{name}: its {pages} pages are not grey images of one size")
    return arrays.convert(np.stack(planes, axis=-1), form, name, tag)


def _of_mode(image, form, name):
    if form.channels not in _MODES:
        raise BrokenRecord(
            f"{name}: an image of mode {image.mode} has 1 to 4 channels, not {form.channels}"
        )
    tag = _tag(image, form, name)
    if image.mode == "F" or image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values to 255 instead of scaling them.
        grey = np.asarray(image)
        if image.mode == "I" and grey.size and grey.min() >= 0 and grey.max() < 2**16:
            grey = grey.astype(np.uint16)
        grey = arrays.convert(grey, dataclasses.replace(form, channels=1), name, tag)
        if form.channels in (1, 3):
            return np.repeat(grey, form.channels, axis=-1)
        raise BrokenRecord(f"{name}: a grey image cannot have {form.channels} channels")
    transparent = image.has_transparency_data
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if transparent else "RGB")
    mode = _MODES[form.channels]
    if form.alpha and form.channels in (1, 3) and transparent:
        # One channel more, which says where there is data; colours under it stay as they are.
        pixels = np.array(image.convert("RGBA"))
        colours = np.array(image.convert("RGB").convert(mode)).reshape(*pixels.shape[:2], -1)
        pixels = np.concatenate([colours, pixels[..., 3:]], axis=-1)
        return arrays.convert(pixels, form, name)
    if form.channels in (2, 4) and image.mode != mode:
        raise BrokenRecord(f"{name}: mode {image.mode}, expected {form.channels} channels, {mode}")
    if form.exact and form.channels == 1 and image.mode not in ("1", "L", "LA"):
        # A number is of all channels, before they become one.
        colours = np.array(image.convert("RGB"))
        none = dataclasses.replace(form, channels=3).missing(colours)
        made = arrays.convert(
            np.array(image.convert("L")), dataclasses.replace(form, nodata=None), name
        )
        made[none.all(-1)] = np.nan
        return made
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    return arrays.convert(pixels, form, name, tag)


def _tag(image, form, name) -> str | None:
    """The value of pixels without data, where a TIFF has GDAL's tag for it and it is asked for."""
    said = getattr(image, "tag_v2", {}).get(_GDAL_NODATA)
    if said is None or form.nodata != "gdal":
        return None
    said = str(said).strip("\0 ")
    try:
        float(said)
    except ValueError:
        raise BrokenRecord(
            f"{name}: its tag of pixels without data says {said!r}, no number"
        ) from None
    return said

"""Bytes to pixels, of no more than what is asked for; says which record is broken and why.

JPEG files and windows of large files are decoded in part, all else whole: `pillow`, `arrays`.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import simplejpeg

from mae_jax.data import arrays, large, pillow
from mae_jax.data.form import Form
from mae_jax.data.resample import Box, resample, resample_with_gaps

_FINER = 3  # pixels decoded per pixel shown, at least, where a view is to be as published
_JPEG = b"\xff\xd8\xff"


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
            pixels, shrink = pillow.decode(self._data, self._form, self._name), 1
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
            pillow.check_size(height, width, form, name)
            return Jpeg(data, height, width, form, name)
    return Pixels(pillow.decode(data, form, name), gaps)


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

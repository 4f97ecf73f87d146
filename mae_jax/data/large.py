"""Parts of large TIFF files, which GDAL reads without the rest."""

import dataclasses
import logging
import math
import os
import threading
import warnings
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

from mae_jax.data import arrays
from mae_jax.data.form import Form
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.pixels import MAX_PIXELS

SUFFIXES = (".tif", ".tiff")
_OPEN = 16  # files that a thread keeps open
_SHORT = 2048  # pixels of a row that costs little
_WHOLE = "NONE"  # in the place of a level: GDAL reads no smaller copies by itself
_SAMPLES = 16  # along each side of a window, by which its background is told
# Of GDAL, where nobody said otherwise: megabytes of decoded tiles, and no look at other files.
_SETTINGS = {"GDAL_CACHEMAX": "16", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}

_own = threading.local()  # an open file is of one thread


class Box(NamedTuple):
    """A part of an image in whole pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of a file that is not read yet.

    Attributes:
      path: of the file.
      box: the part.
      image: width and height of the whole.
      state: of the file, as `state` gives it.
    """

    path: str
    box: Box
    image: tuple[int, int]
    state: tuple[int, ...] = ()

    @property
    def known_by(self) -> str:
        """What tells its content from that of others, wherever the file lies."""
        return repr((os.path.basename(self.path), self.box, self.image, self.state[:2]))


def state(path: str) -> tuple[int, ...]:
    """What changes when a file does; of one that is not there, nothing."""
    try:
        about = os.stat(path)
    except OSError:
        return ()
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino


def size(path: str, name: str) -> tuple[int, int]:
    """Width and height of the image in a file.

    Raises:
      BrokenRecord: it cannot be opened, or its values are not pixels as they stand.
    """
    file = _opened(path, name)
    return file.width, file.height


def tiled(path: str, name: str) -> bool:
    """Whether a part can be read without the rows that it lies in, or these are short.

    Raises:
      BrokenRecord: as of `size`.
    """
    file = _opened(path, name)
    return file.block_shapes[0][1] < file.width or file.width <= _SHORT


def levels(path: str, form: Form, name: str) -> list[int]:
    """By what each of the smaller copies of the image, that are in the file too, is smaller.

    None of them where their maker may not have known which pixels have no data.
    """
    file = _opened(path, name)
    return file.overviews(1) if _is_told(file, form) else []


def _is_told(file, form: Form) -> bool:
    """Whether the file itself says which pixels have no data, as the form does."""
    if form.nodata in (None, "alpha", "gdal"):
        return True
    return file.nodata is not None and repr(float(form.nodata)) == repr(float(file.nodata))


class Read(NamedTuple):
    """What was read of an image, or of one of its smaller copies.

    Attributes:
      pixels: (H, W, C) uint8 or float32; NaN where there is no data.
      left, top: where they are in what was read of, in its pixels.
      across, down: its pixels for one of the image.
    """

    pixels: np.ndarray
    left: int
    top: int
    across: float
    down: float


def read(
    path: str,
    box: tuple[float, float, float, float],
    form: Form,
    name: str,
    level: int | None = None,
) -> Read:
    """The pixels that a part of an image lies in.

    Args:
      path: of the file.
      box: left, top, width, height, in pixels of the image; what lies outside of it is left out.
      form: what pixels are to be.
      level: which of the smaller copies is read.

    Raises:
      BrokenRecord: it cannot be read, or has other channels.
    """
    whole, file = _opened(path, name), _opened(path, name, level)
    across, down = file.width / whole.width, file.height / whole.height
    left, top = max(int(box[0] * across), 0), max(int(box[1] * down), 0)
    right = min(math.ceil((box[0] + box[2]) * across), file.width)
    bottom = min(math.ceil((box[1] + box[3]) * down), file.height)
    pixels = _pixels(file, Box(left, top, right - left, bottom - top), form, name)
    return Read(pixels, left, top, across, down)


def background(
    path: str,
    boxes: list[Box],
    name: str,
    *,
    values: tuple[float, float] | None = None,
    nodata: str | None = None,
) -> list[float]:
    """Of parts of an image, the share that is background, by a grid of 16 x 16 of its pixels.

    Args:
      path: of the file.
      boxes: the parts.
      values: lowest and highest of background, in all channels, unsigned integers as a share of
        their range; None where it is only what has no data.
      nodata: as of `Form`.

    Returns:
      A share for each; 0 where it cannot be told, so that reading the part says why.

    Raises:
      BrokenRecord: the file cannot be opened.
    """
    file, shares = _opened(path, name), []
    form = Form(file.count - _has_alpha(file), floats=True, nodata=nodata)
    if not _is_told(file, form):
        file = _opened(path, name, _WHOLE)
    for box in boxes:
        shape = min(box.height, _SAMPLES), min(box.width, _SAMPLES)
        try:
            pixels = _pixels(file, box, form, name, shape)
        except BrokenRecord:
            shares.append(0.0)
            continue
        blank = np.isnan(pixels).all(-1)
        if values is not None:
            blank |= ((pixels >= values[0]) & (pixels <= values[1])).all(-1)
        shares.append(float(blank.mean()))
    return shares


def _pixels(file, box, form, name, shape=None) -> np.ndarray:
    """A part of a file, (H, W, C); or so many rows and columns of its pixels, picked evenly."""
    from rasterio.windows import Window as Part

    out = {} if shape is None else {"out_shape": (file.count, *shape)}
    try:
        values = np.moveaxis(file.read(window=Part(*box), **out), 0, -1)
    except _errors() as error:
        raise BrokenRecord(f"{name}: {error.__cause__ or error}") from None
    alpha = _has_alpha(file)
    if file.count - alpha == 1 and form.channels == 3:  # grey among colours, as of every image
        values = np.concatenate([*[values[..., :1]] * 3, values[..., 1:]], axis=-1)
    if form.alpha and not alpha:
        form = dataclasses.replace(form, nodata="nan")  # or the last channel would be taken for it
    elif alpha and not form.alpha and values.shape[-1] == form.channels + 1:
        values = values[..., :-1]
    tag = None if file.nodata is None else repr(float(file.nodata))
    return arrays.convert(values, form, name, tag)


def _has_alpha(file) -> bool:
    """Whether its last channel says how transparent pixels are."""
    from rasterio.enums import ColorInterp

    return file.count > 1 and file.colorinterp[-1] == ColorInterp.alpha


def _opened(path: str, name: str, level: int | str | None = None):
    """A file, or one of its smaller copies, open in this thread; anew where it has changed."""
    if not hasattr(_own, "files"):
        _own.files = OrderedDict()
    files, key = _own.files, (path, level, state(path))
    if key not in files:
        files[key] = _open(path, name, level)
        if len(files) > _OPEN:
            files.popitem(last=False)[1].close()
    files.move_to_end(key)
    return files[key]


def _open(path, name, level):
    for setting, value in _SETTINGS.items():
        os.environ.setdefault(setting, value)
    try:
        import rasterio
    except ImportError:
        raise UsageError(
            "windows of TIFF files, data.window, need rasterio: pip install 'mae_jax[raster]'"
        ) from None
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # what it says is in its errors too
    # For good: threads that open files share the filters.
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    more: dict[str, Any] = {} if level is None else {"OVERVIEW_LEVEL": level}
    try:
        file = rasterio.open(path, driver="GTiff", **more)
        reason = _unfit(file)
    except _errors() as error:
        raise BrokenRecord(f"{name}: {error}") from None
    except UnicodeError:
        raise BrokenRecord(f"{name}: its name is no UTF-8, which GDAL needs; rename it") from None
    if reason:
        file.close()
        raise BrokenRecord(f"{name}: {reason}")
    return file


def _errors() -> tuple[type[Exception], ...]:
    """What rasterio raises of a file: its own errors, and GDAL's as they are, which it lets through
    where other code of the process has used it, too, and which have no public name."""
    from rasterio import _err, errors

    return errors.RasterioError, _err.CPLE_BaseError


def _unfit(file) -> str:
    """Why the values of a file are not its pixels; empty where they are."""
    from rasterio.enums import ColorInterp

    structure = file.tags(1, ns="IMAGE_STRUCTURE") | file.tags(ns="IMAGE_STRUCTURE")
    if file.subdatasets:
        return f"has {len(file.subdatasets)} pages; a window is of one"
    if math.prod(file.block_shapes[0]) > MAX_PIXELS:
        return f"has tiles of {math.prod(file.block_shapes[0])} pixels, more than {MAX_PIXELS}"
    if "NBITS" in structure and np.dtype(file.dtypes[0]).kind != "f":
        return f"has values of {structure['NBITS']} bits; expected 8, 16 or 32"
    if file.colorinterp[0] == ColorInterp.palette:
        return "has a palette of colours; gdal_translate -expand rgb writes them out"
    if structure.get("MINISWHITE") == "YES":
        return "has its values upside down, 0 for white; gdal_translate -scale turns them"
    if np.dtype(file.dtypes[0]).kind not in "uif":
        return f"holds {file.dtypes[0]}, which are no pixels"
    return ""

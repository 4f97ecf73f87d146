"""Images that are arrays: of any number of channels, in memory or as .npy and .npz files.

A small file can hold a huge array: its header is believed before anything of it is decompressed.
"""

import contextlib
import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from mae_jax.data.form import Form
from mae_jax.errors import BrokenRecord

SUFFIXES = (".npy", ".npz")
_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # numpy's; others may ask for any memory
_LONGEST_HEADER = 10_000  # bytes; numpy has this bound too, but reads the header first
_KINDS = "buif"  # of numpy's types, those that are numbers
_CHANNELS = 16  # values per pixel of an image of the most pixels, where channels are not known
_CHUNK = 2**20
_BROKEN = (
    OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip


class _Header(NamedTuple):
    """What is known of an array before it is read."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype

    @property
    def values(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.values * self.dtype.itemsize


def is_array(data: bytes) -> bool:
    """Whether these are the bytes of an .npy or .npz file."""
    return data[:6] == _NPY or data[:4] == _ZIP


def read(data: bytes, form: Form, name: str) -> np.ndarray:
    """The image in an .npy file, or the only array, or the one called `image`, of an .npz.

    Returns:
      (H, W, channels), as `convert` gives it.

    Raises:
      BrokenRecord: there is no such array, or it has other channels or more than the form's
        `max_pixels`, which its header says; no more memory is taken than the image needs.
    """
    with _opened(data, name) as (file, header):
        placed = _placed(header.shape, form)
        if len(placed) != 3 or placed[0] * placed[1] > form.max_pixels:
            raise _too_large(header, form.max_pixels, name)
        if placed[2] not in _allowed(form):
            raise _other_channels(header, form.channels, name)
        content = np.empty(header.bytes, np.uint8)
        done = 0
        for chunk in _chunks(file, header.bytes, name):
            content[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
            done += len(chunk)
        array = content.view(header.dtype)
        array = array.reshape(header.shape, order="F" if header.fortran else "C")
    return convert(array, form, name)


def check(data: bytes, max_pixels: int, name: str) -> None:
    """Reads all of an array that may be an image, whatever its channels, keeping none of it.

    Raises:
      BrokenRecord: there is none, it is larger than any image may be, or it cannot be read.
    """
    with _opened(data, name) as (file, header):
        most = math.prod(sorted(header.shape)[-2:]) <= max_pixels
        if len(header.shape) not in (2, 3) or not most or header.values > _CHANNELS * max_pixels:
            raise _too_large(header, max_pixels, name)
        for _ in _chunks(file, header.bytes, name):
            pass


@contextlib.contextmanager
def _opened(data: bytes, name: str) -> Iterator[tuple[BinaryIO, _Header]]:
    """The image's file, read up to where its values begin, and what its header says."""
    try:
        if data[:6] == _NPY:
            file: BinaryIO = io.BytesIO(data)
            yield file, _header(file, name)
            return
        with zipfile.ZipFile(io.BytesIO(data)) as files:
            names = [member for member in files.namelist() if member.endswith(".npy")]
            chosen = "image.npy" if "image.npy" in names else names[0] if len(names) == 1 else None
            if chosen is None:
                raise BrokenRecord(
                    f"{name}: holds {', '.join(n[:-4] for n in names) or 'no array'}; expected one "
                    "array, or one called image"
                )
            if files.getinfo(chosen).compress_type not in _PACKINGS:
                raise BrokenRecord(f"{name}: is compressed otherwise than numpy does")
            with files.open(chosen) as file:
                yield file, _header(file, name)
    except _BROKEN as error:
        raise BrokenRecord(f"{name}: {error or type(error).__name__}") from None


def _header(file: BinaryIO, name: str) -> _Header:
    start = file.read(8)
    version = tuple(start[6:])
    length = {(1, 0): "<H", (2, 0): "<I"}.get(version)
    if start[:6] != _NPY or length is None:
        raise BrokenRecord(f"{name}: no .npy file of a version that is known")
    packed = file.read(struct.calcsize(length))
    size = struct.unpack(length, packed)[0] if packed else 0
    if size > _LONGEST_HEADER:
        raise BrokenRecord(f"{name}: a header of {size} bytes is longer than {_LONGEST_HEADER}")
    reader = np.lib.format.read_array_header_1_0
    if version == (2, 0):
        reader = np.lib.format.read_array_header_2_0
    try:
        header = _Header(*reader(io.BytesIO(packed + file.read(size))))
    except (SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise BrokenRecord(f"{name}: its header cannot be read: {type(error).__name__}") from None
    if header.dtype.hasobject:
        raise BrokenRecord(f"{name}: holds Python objects, which are never loaded")
    if header.dtype.kind not in _KINDS:
        raise BrokenRecord(f"{name}: holds values of {header.dtype}, which are no numbers")
    if min(header.shape, default=0) < 1:
        raise BrokenRecord(f"{name}: an array of shape {header.shape} holds nothing")
    return header


def _chunks(file: BinaryIO, count: int, name: str) -> Iterator[bytes]:
    """So many bytes in parts; then what a zip file says about them has been checked too."""
    while count:
        chunk = file.read(min(count, _CHUNK))
        if not chunk:
            raise BrokenRecord(f"{name}: ends too early")
        count -= len(chunk)
        yield chunk
    file.read(1)


def _allowed(form: Form) -> tuple[int, ...]:
    """Channels that an array may have."""
    return (form.channels, form.channels + 1) if form.alpha else (form.channels,)


def _placed(shape: tuple[int, ...], form: Form) -> tuple[int, ...]:
    """(H, W, C) for the shape of an array, whose channels may come first or be left out."""
    if len(shape) == 2:
        return *shape, 1
    if len(shape) == 3 and shape[-1] not in _allowed(form) and shape[0] in _allowed(form):
        return *shape[1:], shape[0]
    return shape


def _too_large(header, max_pixels, name):
    return BrokenRecord(
        f"{name}: an array of shape {header.shape}; expected (H, W) or (H, W, C) of at most "
        f"{max_pixels} pixels"
    )


def _other_channels(array, channels, name):
    return BrokenRecord(
        f"{name}: array of {array.dtype} {array.shape}, expected {channels} channels"
    )


def convert(array: np.ndarray, form: Form, name: str, tag: str | None = None) -> np.ndarray:
    """An array as pixels.

    Args:
      array: (H, W), (H, W, channels) or (channels, H, W); with the form's `alpha` of one channel
        more, too.
      form: of float32, unsigned integers are a share of their range, others as they are; to uint8,
        unsigned integers of more bits are scaled down.
      name: of the record, for errors.
      tag: the value of pixels without data that GDAL's tag says.

    Returns:
      (H, W, channels) float32 or uint8; NaN where there is no data.

    Raises:
      BrokenRecord: it has another shape, or values that uint8 cannot hold.
    """
    placed = _placed(array.shape, form)
    if len(placed) != 3 or placed[2] not in _allowed(form) or not array.size:
        raise _other_channels(array, form.channels, name)
    if array.ndim == 2:
        array = array[..., None]
    elif placed != array.shape:
        array = np.moveaxis(array, 0, -1)
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    missing, array = form.missing(array, tag), array[..., : form.channels]
    unsigned = array.dtype.kind == "u"
    if form.floats:
        top = np.float32(np.iinfo(array.dtype).max) if unsigned else None
        with np.errstate(over="ignore"):  # what it makes infinite is refused below
            array = array.astype(np.float32)
        if missing is not None:
            array[missing] = 0
        if not np.isfinite(array).all():
            unsaid = form.nodata is None and np.isnan(array).any()
            advice = "; data.nodata='nan' leaves out those that are NaN" if unsaid else ""
            raise BrokenRecord(f"{name}: holds values that are not finite{advice}")
        if unsigned:
            array /= top
        if missing is not None:
            array[missing] = np.nan
        return array
    if not unsigned:
        raise BrokenRecord(
            f"{name}: values of {array.dtype} do not fit into uint8; data.pixels='float32' keeps "
            "them, with data.mean and data.std in their units"
        )
    if array.dtype != np.uint8:
        step = np.iinfo(array.dtype).max / 255
        array = np.round(array / step).astype(np.uint8)
    return np.ascontiguousarray(array)

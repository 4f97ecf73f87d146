"""Images that are arrays: of any number of channels, in memory or as .npy and .npz files."""

import io
import zipfile

import numpy as np

from mae_jax.errors import BrokenRecord

SUFFIXES = (".npy", ".npz")
_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"


def is_array(data: bytes) -> bool:
    """Whether these are the bytes of an .npy or .npz file."""
    return data[:6] == _NPY or data[:4] == _ZIP


def read(data: bytes, channels: int, floats: bool, max_pixels: int, name: str) -> np.ndarray:
    """The image in an .npy file, or the only array, or the one called `image`, of an .npz.

    Returns:
      (H, W, channels), as `convert` gives it.

    Raises:
      BrokenRecord: there is no such array, or it is larger than `max_pixels`.
    """
    return convert(_load(data, max_pixels, name), channels, floats, name)


def check(data: bytes, max_pixels: int, name: str) -> None:
    """Raises BrokenRecord unless there is an array of at most so many pixels."""
    _load(data, max_pixels, name)


def _load(data, max_pixels, name):
    try:
        if data[:6] == _NPY:
            return _array(io.BytesIO(data), max_pixels, name)
        with zipfile.ZipFile(io.BytesIO(data)) as files:
            names = [member for member in files.namelist() if member.endswith(".npy")]
            chosen = "image.npy" if "image.npy" in names else names[0] if len(names) == 1 else None
            if chosen is None:
                raise BrokenRecord(
                    f"{name}: holds {', '.join(n[:-4] for n in names) or 'no array'}; expected one "
                    "array, or one called image"
                )
            with files.open(chosen) as file:
                return _array(file, max_pixels, name)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise BrokenRecord(f"{name}: {error or type(error).__name__}") from None


def _array(file, max_pixels, name):
    """Reads an array whose header says that it is no larger than allowed."""
    version = np.lib.format.read_magic(file)
    reader = {(1, 0): "read_array_header_1_0", (2, 0): "read_array_header_2_0"}.get(version)
    if reader is None:
        raise BrokenRecord(f"{name}: .npy files of version {version} are unknown")
    shape, fortran, dtype = getattr(np.lib.format, reader)(file)
    if dtype.hasobject:
        raise BrokenRecord(f"{name}: holds Python objects, which are never loaded")
    largest = sorted(shape)[-2:]
    if len(shape) not in (2, 3) or int(np.prod(largest, dtype=object)) > max_pixels:
        raise BrokenRecord(
            f"{name}: an array of shape {shape}; expected (H, W) or (H, W, C) of at most "
            f"{max_pixels} pixels"
        )
    count = int(np.prod(shape, dtype=object))
    content = file.read(count * dtype.itemsize)
    if len(content) < count * dtype.itemsize:
        raise BrokenRecord(f"{name}: ends too early")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def convert(array: np.ndarray, channels: int, floats: bool, name: str) -> np.ndarray:
    """An array as pixels.

    Args:
      array: (H, W), (H, W, channels) or (channels, H, W).
      channels: values per pixel.
      floats: give float32: unsigned integers as a share of their range, others as they are; else
        uint8, to which unsigned integers of more bits are scaled down.
      name: of the record, for errors.

    Returns:
      (H, W, channels) float32 or uint8.

    Raises:
      BrokenRecord: it has another shape, or values that uint8 cannot hold.
    """
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and array.shape[-1] != channels == array.shape[0]:
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[-1] != channels or not array.size:
        raise BrokenRecord(
            f"{name}: array of {array.dtype} {array.shape}, expected {channels} channels"
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    unsigned = array.dtype.kind == "u"
    if floats:
        top = np.float32(np.iinfo(array.dtype).max) if unsigned else None
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise BrokenRecord(f"{name}: holds values that are not finite")
        return array / top if unsigned else array
    if not unsigned:
        raise BrokenRecord(
            f"{name}: values of {array.dtype} do not fit into uint8; data.pixels='float32' keeps "
            "them, with data.mean and data.std in their units"
        )
    if array.dtype != np.uint8:
        step = np.iinfo(array.dtype).max / 255
        array = np.round(array / step).astype(np.uint8)
    return np.ascontiguousarray(array)

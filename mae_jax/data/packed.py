"""Archives that claim more than they hold: found before anything is unpacked."""

import math
import zipfile
from pathlib import Path

import numpy as np

_UNPACKED = 8  # times the size of a file that its content may have
_ANYHOW = 2**28  # bytes that it may have in any case
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def check_unpacked(size: int, path: Path) -> None:
    """Raises ValueError where a file says that so many bytes are in it, and they cannot be numbers.

    What was trained or measured hardly compresses; a small file of one number can fill any memory.
    """
    if size > max(_UNPACKED * path.stat().st_size, _ANYHOW):
        raise ValueError(f"it unpacks to {size} bytes, which numbers do not")


def check_npz(path: Path) -> None:
    """Looks at the headers of an .npz file's arrays, which are believed when they are read.

    Raises:
      Exception: of some kind; it cannot be such a file.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_unpacked(sum(member.file_size for member in members), path)
        for member in members:
            with archive.open(member) as file:
                shape, _, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
            if math.prod(shape) * dtype.itemsize > member.file_size:
                raise ValueError(f"{member.filename} is shorter than its shape {shape}")

"""Names of very many files."""

import os
from collections.abc import Iterable

import numpy as np


class Names:
    """Many names in little memory, which is also sent to worker processes fast.

    They lie in one row of bytes, each between its offset and the next.
    """

    def __init__(self, names: Iterable[str]):
        encoded = [os.fsencode(name) for name in names]
        self._bytes = b"".join(encoded)
        offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self._offsets = offsets.astype(np.uint32) if offsets[-1] < 2**32 else offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"name {index} of {len(self)}")
        start, stop = self._offsets[index : index + 2]
        return os.fsdecode(self._bytes[start:stop])

"""Names of very many files."""

import os
from collections.abc import Sequence

import numpy as np


class Names:
    """Many names in little memory, which is also sent to worker processes fast."""

    def __init__(self, names: Sequence[str]):
        self._bytes = np.array([os.fsencode(name) for name in names], np.bytes_)

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(bytes(self._bytes[index]))

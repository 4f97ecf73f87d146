"""What a source of images is: records, each opened by its index."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

NO_LABEL = -1


@dataclasses.dataclass(frozen=True)
class Record:
    """One image, still encoded, its label (NO_LABEL where there is none), and its name."""

    data: bytes | np.ndarray
    label: int
    name: str


class Source(Protocol):
    """Records by index. `classes` is empty where there are no labels."""

    classes: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record:
        """Raises BrokenRecord if it cannot be read."""
        ...

    def name(self, index: int) -> str:
        """What to call a record; costs nothing."""
        ...

    def labels(self) -> np.ndarray:
        """All labels, (records,) int32."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the data: two sources of one fingerprint hold the same records."""
        ...

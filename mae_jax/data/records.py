"""What a source of images is: records, each opened by its index."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mae_jax.data import large

NO_LABEL = -1

Batch = dict[str, np.ndarray]  # arrays with a row for each of some records, by what they are


@dataclasses.dataclass(frozen=True)
class Record:
    """One image, still encoded, its label (NO_LABEL where there is none), and its name.

    Its data may also be where the image lies: the path of a file, or a window of one.
    """

    data: bytes | np.ndarray | str | large.Window
    label: int
    name: str


@runtime_checkable
class Source(Protocol):
    """Records by index, and all that their readers ask about them.

    A source is a class that names this one as its base: it then has what is written out below,
    for a single set without labels, and defines the rest.

    Attributes:
      classes: the labels' names in order; empty where there are no labels.
      unlabelled: why there are none, as the end of a sentence; empty where there are, or where
        there is nothing to say about it.
      left_out: in words, what lies beside them and is not read, though it seems to show something.
      noun: what a record is called.
    """

    classes: Sequence[str] = ()
    unlabelled: str = ""
    left_out: str = ""
    noun: str = "image"

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record:
        """Raises BrokenRecord if it cannot be read."""
        ...

    def name(self, index: int) -> str:
        """What to call a record; costs nothing."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the data: two sources of one fingerprint hold the same records."""
        ...

    def labels(self) -> np.ndarray:
        """All labels, (records,) int32; may read every record."""
        return np.full(len(self), NO_LABEL, np.int32)

    def known_labels(self) -> np.ndarray | None:
        """The labels, where they are known without reading records."""
        return self.labels()

    def no_labels(self) -> str:
        """The end of a sentence that begins with what needs them."""
        reason = f": {self.unlabelled}" if self.unlabelled else ""
        return f"needs labelled data, and this has none{reason}"

    @property
    def parts(self) -> tuple[int, ...]:
        """How many records each of the sets in it has; those of a set lie in a row."""
        return (len(self),)

    @property
    def shares(self) -> tuple[float, ...] | None:
        """What each of the sets takes of an epoch, in any unit; None: as many as it has."""
        return None

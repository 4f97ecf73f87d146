"""Some records of a source."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mae_jax.data.records import Record, Source


class Subset(Source):
    """Some records of another source, in a given order.

    Sets that it has records of keep their shares.

    Raises:
      ValueError: the records of one set do not lie in a row.
    """

    def __init__(self, source: Source, indices: Sequence[int]):
        self._source, self._indices = source, np.asarray(indices, int)
        self.classes, self.unlabelled = source.classes, source.unlabelled
        self.noun = source.noun
        sets = np.searchsorted(np.cumsum(source.parts), self._indices, side="right")
        if (np.diff(sets) < 0).any():
            raise ValueError("a subset of several sets must take them one after the other")
        counts = np.bincount(sets, minlength=len(source.parts))
        self._parts = tuple(int(n) for n in counts if n)
        self._shares = source.shares
        if source.shares is not None:
            pairs = zip(source.shares, counts, strict=True)
            self._shares = tuple(share for share, n in pairs if n)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Record:
        return self._source[int(self._indices[index])]

    def name(self, index: int) -> str:
        return self._source.name(int(self._indices[index]))

    def labels(self) -> np.ndarray:
        return self._source.labels()[self._indices]

    def known_labels(self) -> np.ndarray | None:
        labels = self._source.known_labels()
        return None if labels is None else labels[self._indices]

    @property
    def parts(self) -> tuple[int, ...]:
        return self._parts

    @property
    def shares(self) -> tuple[float, ...] | None:
        return self._shares

    def fingerprint(self) -> dict[str, Any]:
        chosen = hashlib.sha256(self._indices.astype("<i8").tobytes()).hexdigest()
        return {"kind": "subset", "chosen": chosen, "of": self._source.fingerprint()}

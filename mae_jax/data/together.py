"""Several sets of images as one."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mae_jax.data.records import NO_LABEL, Record, Source
from mae_jax.data.said import in_order


class Together(Source):
    """Records of several sets, one set after the other, shuffled as one.

    Their classes are those of all sets together; where a set has none, its records have no label.

    Args:
      sources: the sets.
      names: what each is called, which stands before the names of its records.
    """

    def __init__(self, sources: Sequence[Source], names: Sequence[str]):
        self._sources, self._names = list(sources), [name.rstrip("/") for name in names]
        self._ends = np.cumsum([len(source) for source in sources])
        known = [list(source.classes) for source in sources if source.classes]
        same = known and all(classes == known[0] for classes in known)
        self.classes = (
            known[0] if same else sorted({name for names in known for name in names}, key=in_order)
        )
        self.unlabelled = "" if known else next((s.unlabelled for s in sources), "")
        number = {name: i for i, name in enumerate(self.classes)}
        # Of each set, what its labels are here; NO_LABEL, its last, is NO_LABEL here, too.
        self._labels = [
            np.array([*(number[name] for name in s.classes), NO_LABEL], np.int32) for s in sources
        ]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Record:
        part, within = self._at(index)
        record = self._sources[part][within]
        return dataclasses.replace(
            record, label=int(self._labels[part][record.label]), name=self.name(index)
        )

    def name(self, index: int) -> str:
        part, within = self._at(index)
        return f"{self._names[part]}/{self._sources[part].name(within)}"

    def labels(self) -> np.ndarray:
        pairs = zip(self._labels, self._sources, strict=True)
        return np.concatenate([here[source.labels()] for here, source in pairs])

    def fingerprint(self) -> dict[str, Any]:
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        return {
            "kind": "together",
            "records": len(self),
            "classes": digest.hexdigest(),
            "of": [source.fingerprint() for source in self._sources],
        }

    def _at(self, index):
        part = int(np.searchsorted(self._ends, index, side="right"))
        return part, int(index - (self._ends[part - 1] if part else 0))

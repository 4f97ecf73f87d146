"""Where images come from, as a config or a path says it."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data import splits, tables
from mae_jax.data.folder import FileSource, FolderSource
from mae_jax.data.opening import holds_images, is_there, roots
from mae_jax.data.records import NO_LABEL, Record, Source
from mae_jax.data.subset import Subset
from mae_jax.data.tfds_sets import TfdsSource
from mae_jax.data.together import Together
from mae_jax.data.windows import Windows
from mae_jax.errors import UsageError


class ArraySource(Source):
    """Images in memory: (records, H, W, C) uint8, or a list of arrays."""

    def __init__(self, images, labels=None, classes: Sequence[str] = ()):
        self._images, self._labels, self.classes = images, labels, classes

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        label = NO_LABEL if self._labels is None else int(self._labels[index])
        return Record(np.asarray(self._images[index]), label, self.name(index))

    def name(self, index: int) -> str:
        return f"array[{index}]"

    def labels(self) -> np.ndarray:
        if self._labels is None:
            return np.full(len(self), NO_LABEL, np.int32)
        return np.asarray(self._labels, np.int32)

    def fingerprint(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for image in self._images:
            digest.update(np.ascontiguousarray(image).tobytes())
        return {"kind": "arrays", "records": len(self), "sha256": digest.hexdigest()}


class Mixture(Source):
    """Several sources as one, which says how much of each an epoch takes.

    Labels are kept where all have the same classes.

    Args:
      shares: of each in an epoch.
    """

    def __init__(self, sources: Sequence[Source], shares: Sequence[float]):
        self._sources, self._shares = list(sources), tuple(shares)
        self._parts = tuple(len(source) for source in sources)
        self._ends = np.cumsum(self._parts)
        first = list(sources[0].classes)
        self.classes = first if all(list(s.classes) == first for s in sources) else []
        if not self.classes:
            reasons = [s.unlabelled for s in sources if not s.classes]
            self.unlabelled = (reasons or ["its sets have different classes"])[0]

    @property
    def parts(self) -> tuple[int, ...]:
        return self._parts

    @property
    def shares(self) -> tuple[float, ...]:
        return self._shares

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Record:
        source, within = self._at(index)
        record = source[within]
        return record if self.classes else dataclasses.replace(record, label=NO_LABEL)

    def name(self, index: int) -> str:
        source, within = self._at(index)
        return source.name(within)

    def labels(self) -> np.ndarray:
        if not self.classes:
            return np.full(len(self), NO_LABEL, np.int32)
        return np.concatenate([source.labels() for source in self._sources])

    def known_labels(self) -> np.ndarray | None:
        known = [source.known_labels() for source in self._sources]
        if not self.classes or any(labels is None for labels in known):
            return None
        return np.concatenate(known)

    def fingerprint(self) -> dict[str, Any]:
        return {
            "kind": "mixture",
            "records": len(self),
            "of": [
                {"share": share, "data": source.fingerprint()}
                for share, source in zip(self._shares, self._sources, strict=True)
            ],
        }

    def _at(self, index):
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self._sources[part], int(index - (self._ends[part - 1] if part else 0))


def open_source(data, split: str, classes: Sequence[str] = ()) -> Source:
    """The records of one split, as the config's `data` section says.

    Args:
      data: the config's section.
      split: a tfds split expression.
      classes: the names of the labels, where the training split has settled them.

    Raises:
      UsageError: the data is not there, or not as the config says.
    """
    unread = data.window is not None
    if data.mixture:
        shares = [float(weight) for _, weight in data.mixture]
        sets = [_open(name, split, data.dir, classes, unread) for name, _ in data.mixture]
        source: Source = Mixture(sets, shares)
    elif data.folder is None:
        source = TfdsSource(data.name, split, data.dir)
    elif data.labels is None:
        source = _at(data.folder, split, classes, unread)
    else:
        labels = tables.read(data.labels, _at(data.folder, splits.ALL, unread=unread))
        source = tables.Labelled(_at(data.folder, split, unread=unread), labels, classes)
    if not unread:
        return source
    return Windows(
        source,
        data.window,
        background=data.background,
        share=data.background_share,
        nodata=data.nodata,
    )


def labelled(source: Source) -> Source:
    """Those of the records that have a label; all of a source without any, or of unknown ones."""
    labels = source.known_labels() if source.classes else None
    if labels is None or (labels != NO_LABEL).all():
        return source
    chosen = np.flatnonzero(labels != NO_LABEL)
    if not len(chosen):
        raise UsageError(f"none of {len(source)} images has a label; data.labels names others")
    return Subset(source, chosen)


def _at(folder: str, split: str, classes: Sequence[str] = (), unread: bool = False) -> Source:
    """The images at one place, or at several with commas between them."""
    places = roots(folder)
    sets = [FolderSource(place, split, classes, unread=unread) for place in places]
    return sets[0] if len(sets) == 1 else Together(sets, places)


def _open(name, split, directory, classes, unread):
    if is_there(name):
        return FolderSource(name, split, classes, unread=unread)
    if unread:
        raise UsageError(f"data.window is of TIFF files, and data.mixture {name!r} is no folder")
    return TfdsSource(name, split, directory)


def open_images(path: str | Path) -> Source:
    """The images at a path, as `opening.open_files` takes it, or the one a file holds.

    Raises:
      UsageError: there is nothing, or no image in it.
    """
    places = roots(str(path))
    for place in places:
        if not is_there(place):
            raise UsageError(f"images {place!r} are neither a folder nor a file")
    place = os.path.expanduser(places[0])
    if len(places) == 1 and os.path.isfile(place) and not holds_images(place):
        return FileSource(place)
    return _at(str(path), splits.ALL)

"""Folders of images: sub-folders are splits and classes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data import splits
from mae_jax.data.files import SUFFIXES, Files, open_files
from mae_jax.data.records import NO_LABEL, Record
from mae_jax.errors import UsageError


class FolderSource:
    """Images below a folder, in the order of their paths.

    Where every image of a split lies in a sub-folder, the first sub-folder's name is its label.

    Args:
      folder: where to look, at any depth; or its URL; or a set that was prepared of one, which has
        the same splits and labels.
      split: a tfds split expression over the folder's sub-folders, or over `all`, which is every
        image below it; a share of a split (`all[:90%]`) is drawn over a fixed shuffle of it.
      classes: the labels' names in order, where another split has settled them.

    Raises:
      UsageError: no such folder, no image in it, no such split, or a label not in `classes`.
    """

    def __init__(self, folder: str, split: str, classes: Sequence[str] = ()):
        self._files = open_files(folder)
        if not len(self._files):
            raise UsageError(
                f"data.folder {folder!r} has no images; known are files ending in "
                f"{', '.join(SUFFIXES)}"
            )
        known = _splits(self._files)
        chosen: list[np.ndarray] = []
        names: list[str | None] = []
        for part, start, stop in splits.absolute(split, known):
            files, depth = known[part], 0 if part == "all" else 1
            # Shares of a sorted list would be whole classes, so they are cut from a shuffle.
            order = np.sort(np.random.default_rng(0).permutation(len(files))[start:stop])
            chosen.append(files[order])
            parts = [self._files.name(index).split("/") for index in files]
            labelled = all(len(path) > depth + 1 for path in parts)
            names += [parts[i][depth] if labelled else None for i in order]
        self._indices = np.concatenate(chosen) if chosen else np.array([], int)
        if not len(self._indices):
            raise UsageError(f"data split {split!r} of folder {folder!r} is empty")
        if None in names:
            self.classes, self._labels = [], np.full(len(names), NO_LABEL, np.int32)
            return
        self.classes = list(classes) or sorted(set(names))
        number = {name: i for i, name in enumerate(self.classes)}
        for index, name in zip(self._indices, names, strict=True):
            if name not in number:
                raise UsageError(
                    f"data split {split!r} has a class {name!r} ({self._files.name(index)}) that "
                    "the training split does not have"
                )
        self._labels = np.array([number[name] for name in names], np.int32)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Record:
        at = int(self._indices[index])
        return Record(self._files.read(at), int(self._labels[index]), self._files.name(at))

    def name(self, index: int) -> str:
        """Of a record, without reading it."""
        return self._files.name(int(self._indices[index]))

    def labels(self) -> np.ndarray:
        return self._labels

    def fingerprint(self) -> dict[str, Any]:
        return self._files.fingerprint(self._indices)


class FileSource:
    """One image file, without a label."""

    classes: Sequence[str] = ()

    def __init__(self, path: str | Path):
        self._path = Path(path)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Record:
        return Record(self._path.read_bytes(), NO_LABEL, self.name(index))

    def name(self, index: int) -> str:
        """The file's, without its folder."""
        del index
        return self._path.name

    def labels(self) -> np.ndarray:
        return np.array([NO_LABEL], np.int32)

    def fingerprint(self) -> dict[str, Any]:
        digest = hashlib.sha256(self._path.read_bytes()).hexdigest()
        return {"kind": "file", "records": 1, "sha256": digest}


def _splits(files: Files) -> dict[str, np.ndarray]:
    """The numbers of the files in each top-level sub-folder, and of `all`."""
    members: dict[str, list[int]] = {}
    for index in range(len(files)):
        top, slash, _ = files.name(index).partition("/")
        if slash:
            members.setdefault(top, []).append(index)
    return {"all": np.arange(len(files))} | {k: np.array(v) for k, v in members.items()}

"""Folders of images: sub-folders are splits and classes."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data import splits
from mae_jax.data.files import SUFFIXES, Files, open_files, others_in, persistently
from mae_jax.data.records import NO_LABEL, Record, Source
from mae_jax.errors import UsageError

_SPLITS = {
    "train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval",
    "evaluation", "holdout",
}  # fmt: skip
_NAMED = 3  # files that a message names, at most


class FolderSource(Source):
    """Images below a folder, in the order of their paths.

    Where every image of a split lies in a sub-folder, the first sub-folder's name is its label.
    The split `all` has the sub-folders of the folder itself as labels, or, where each of those is
    called as splits are (train, val, …), the sub-folders of these.

    Args:
      folder: where to look, at any depth; or its URL; or a set that was prepared of one, which has
        the same splits and labels.
      split: a split expression (see `splits`) over the folder's sub-folders, or over `all`, which
        is every image below it; a share of a split (`all[:90%]`) is drawn over a fixed shuffle.
      classes: the labels' names in order, where another split has settled them.

    Raises:
      UsageError: no such folder, no image in it, no such split, or a label not in `classes`.
    """

    def __init__(self, folder: str, split: str, classes: Sequence[str] = ()):
        self._files = open_files(folder)
        if not len(self._files):
            raise UsageError(
                f"data.folder {folder!r} has no images{others_in(folder)}; known are files ending "
                f"in {', '.join(SUFFIXES)}"
            )
        everything, below = np.arange(len(self._files)), _sub_folders(self._files)
        chosen: list[np.ndarray] = []
        names: list[str] = []
        for part, start, stop in splits.absolute(split, below, everything):
            depth = 1 if part is not None or all(map(_is_split, below)) else 0
            files = everything if part is None else below[part]
            # Shares of a sorted list would be whole classes, so they are cut from a shuffle.
            order = np.sort(np.random.default_rng(0).permutation(len(files))[start:stop])
            chosen.append(files[order])
            if len(order):
                labels, stray = self._class_folders(files, depth)
                names += [labels[i] for i in order]
                self.unlabelled = self.unlabelled or stray
        self._indices = np.concatenate(chosen) if chosen else np.array([], int)
        if not len(self._indices):
            raise UsageError(f"data split {split!r} of folder {folder!r} is empty")
        if self.unlabelled:
            self._labels = np.full(len(names), NO_LABEL, np.int32)
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

    def _class_folders(self, files: np.ndarray, depth: int) -> tuple[list[str], str]:
        """The name of each file's folder at a depth, and which files lie in none."""
        names, stray = [], []
        for index in files:
            path = self._files.name(index).split("/")
            if len(path) < depth + 2:
                stray.append(index)
            names.append(path[min(depth, len(path) - 1)])
        if not stray:
            return names, ""
        if len(stray) == len(files):
            return names, "no image lies in a class folder"
        some = ", ".join(self._files.name(index) for index in stray[:_NAMED])
        more = f" and {len(stray) - _NAMED} more" if len(stray) > _NAMED else ""
        verb = "lies" if len(stray) == 1 else "lie"
        return names, f"{some}{more} of {len(files)} images {verb} in no class folder"

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

    def no_labels(self) -> str:
        advice = "let data.folder hold class folders alone, or name classes in a table, data.labels"
        return f"{super().no_labels()}; {advice}"

    def fingerprint(self) -> dict[str, Any]:
        return self._files.fingerprint(self._indices)


class FileSource(Source):
    """One image file, without a label."""

    def __init__(self, path: str | Path):
        self._path = Path(path)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Record:
        data = persistently(self._path.read_bytes, self.name(index))
        return Record(data, NO_LABEL, self.name(index))

    def name(self, index: int) -> str:
        """The file's, without its folder."""
        del index
        return self._path.name

    def fingerprint(self) -> dict[str, Any]:
        digest = hashlib.sha256(self._path.read_bytes()).hexdigest()
        return {"kind": "file", "records": 1, "sha256": digest}


def _is_split(name: str) -> bool:
    """Whether a folder is called as splits are: train, Val, test2017, …"""
    return re.sub(r"[\W\d_]+$", "", name.casefold()) in _SPLITS


def _sub_folders(files: Files) -> dict[str, np.ndarray]:
    """The numbers of the files below each folder at the top."""
    members: dict[str, list[int]] = {}
    for index in range(len(files)):
        top, slash, _ = files.name(index).partition("/")
        if slash:
            members.setdefault(top, []).append(index)
    return {name: np.array(found) for name, found in members.items()}

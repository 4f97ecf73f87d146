"""Sets of images: what splits and classes they have, by what is said of them or by sub-folders."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data import splits
from mae_jax.data.files import SUFFIXES, Files, others_in, persistently
from mae_jax.data.opening import open_files
from mae_jax.data.records import NO_LABEL, Record, Source
from mae_jax.data.split_names import is_split
from mae_jax.errors import UsageError

_NAMED = 3  # files that a message names, at most
_NO_CLASSES = "no image lies in a class folder"
_TABLE = "name classes in a table, data.labels"


class FolderSource(Source):
    """Images that lie at a path, in the order of their names, or that which their format has.

    Splits and labels are what the format says. Of files in folders it says nothing: where every
    image of a split lies in a sub-folder, the first sub-folder's name is its label, and the split
    `all` has the sub-folders of the folder itself as labels, or, where each of those is called as
    splits are (train, val, …), the sub-folders of these.

    Args:
      folder: where to look, as `opening.open_files` takes it.
      split: a split expression (see `splits`) over the format's splits or the folder's sub-folders,
        or over `all`, which is every image; a share of a split (`all[:90%]`) is drawn over a fixed
        shuffle, and takes images of one group together.
      classes: the labels' names in order, where another split has settled them.
      unread: give paths of files in the place of what is in them.

    Raises:
      UsageError: nothing is there, no image in it, no such split, or a label not in `classes`; or
        what lies there is not files by themselves, and paths are asked for.
    """

    def __init__(
        self, folder: str, split: str, classes: Sequence[str] = (), *, unread: bool = False
    ):
        self._files, self._unread = open_files(folder), unread
        self.left_out, self._advice = self._files.left_out, ""
        if not len(self._files):
            raise UsageError(
                f"{folder!r} has no images{others_in(folder)}; known are files ending "
                f"in {', '.join(SUFFIXES)}"
            )
        if unread and self._files.place(0) is None:
            raise UsageError(
                f"data.window is of TIFF files on a local disk, and data.folder {folder!r} has none"
            )
        said, everything = self._files.said, np.arange(len(self._files))
        parts = _sub_folders(self._files) if said.splits is None else said.splits
        chosen: list[np.ndarray] = []
        names: list[str | None] = []
        for part, start, stop in splits.absolute(split, parts, everything):
            files = everything if part is None else parts[part]
            groups = None if said.groups is None else said.groups[files]
            share = _share(len(files), groups, start, stop)
            chosen.append(files[share])
            if len(share):
                depth = 1 if part is not None or all(map(is_split, parts)) else 0
                labels, reason = self._labels_of(files, depth)
                if part is not None and reason == _NO_CLASSES and not is_split(part):
                    reason += f" of {splits.quoted(part)}"
                    self._advice = splits.if_classes(parts)
                names += [labels[i] for i in share]
                self.unlabelled = self.unlabelled or reason
        self._indices = np.concatenate(chosen) if chosen else np.array([], int)
        if not len(self._indices):
            count = len(self._files)
            raise UsageError(
                f"data split {split!r} of folder {folder!r} is empty: of its "
                f"{count} image{'s' if count > 1 else ''} that is none; take a larger share, "
                "'all[:80%]' and 'all[80%:]' for instance"
            )
        if self.unlabelled:
            self._labels = np.full(len(names), NO_LABEL, np.int32)
            return
        here = set(names) - {None}
        self.classes = list(classes) or said.named(here)
        number = {None: NO_LABEL} | {name: i for i, name in enumerate(self.classes)}
        for index, name in zip(self._indices, names, strict=True):
            if name not in number:
                raise UsageError(
                    f"data split {split!r} has a class {name!r} ({self._files.name(index)}) that "
                    "the training split does not have"
                )
        self._labels = np.array([number[name] for name in names], np.int32)

    def _labels_of(self, files: np.ndarray, depth: int) -> tuple[list[str | None], str]:
        """The name of each file's class, and why there are none."""
        said = self._files.said
        if said.unlabelled:
            return [None] * len(files), said.unlabelled
        if said.labels is None:
            return self._class_folders(files, depth)
        known = [None if label == NO_LABEL else said.classes[label] for label in said.labels[files]]
        return known, "" if any(name is not None for name in known) else "no image has a label"

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
            return names, _NO_CLASSES
        some = ", ".join(self._files.name(index) for index in stray[:_NAMED])
        more = f" and {len(stray) - _NAMED} more" if len(stray) > _NAMED else ""
        verb = "lies" if len(stray) == 1 else "lie"
        return names, f"{some}{more} of {len(files)} images {verb} in no class folder"

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Record:
        at = int(self._indices[index])
        data = self._files.place(at) if self._unread else self._files.read(at)
        return Record(data, int(self._labels[index]), self._files.name(at))

    def name(self, index: int) -> str:
        """Of a record, without reading it."""
        return self._files.name(int(self._indices[index]))

    def labels(self) -> np.ndarray:
        return self._labels

    def no_labels(self) -> str:
        folders = self._files.said.labels is None and not self._files.said.unlabelled
        advice = "; let data.folder hold class folders alone, or " if folders else "; "
        return f"{super().no_labels()}{self._advice or advice + _TABLE}"

    def fingerprint(self) -> dict[str, Any]:
        found, said = self._files.fingerprint(self._indices), self._files.said
        if said.labels is None:
            return found  # which has the names, of which labels follow
        digest = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        digest.update(self._labels.astype("<i4").tobytes())
        return found | {"labels": digest.hexdigest()}


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


def _share(count: int, groups: np.ndarray | None, start: int, stop: int) -> np.ndarray:
    """Some of so many files, in their order.

    Shares of a sorted list would be whole classes, so they are cut from a shuffle. A group is in
    the share that it begins in, so that shares which make up a whole do so with groups, too.
    """
    rng = np.random.default_rng(0)
    if groups is None:
        return np.sort(rng.permutation(count)[start:stop])
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    order, begins = rng.permutation(len(sizes)), np.empty(len(sizes), int)
    begins[order] = np.cumsum(sizes[order]) - sizes[order]
    return np.flatnonzero((start <= begins[group]) & (begins[group] < stop))


def _sub_folders(files: Files) -> dict[str, np.ndarray]:
    """The numbers of the files below each folder at the top."""
    members: dict[str, list[int]] = {}
    for index in range(len(files)):
        top, slash, _ = files.name(index).partition("/")
        if slash:
            members.setdefault(top, []).append(index)
    return {name: np.array(found) for name, found in members.items()}

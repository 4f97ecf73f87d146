"""Where images come from: a tfds data set or a folder, each record opened by its index."""

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mae_jax.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
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

    def __getitem__(self, index: int) -> Record: ...

    def labels(self) -> np.ndarray:
        """All labels, (records,) int32."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the data: two sources of one fingerprint hold the same records."""
        ...


class ArraySource:
    """Images in memory: (records, H, W, C) uint8, or a list of arrays."""

    def __init__(self, images, labels=None, classes: Sequence[str] = ()):
        self._images, self._labels, self.classes = images, labels, classes

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        label = NO_LABEL if self._labels is None else int(self._labels[index])
        return Record(np.asarray(self._images[index]), label, f"array[{index}]")

    def labels(self) -> np.ndarray:
        if self._labels is None:
            return np.full(len(self), NO_LABEL, np.int32)
        return np.asarray(self._labels, np.int32)

    def fingerprint(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for image in self._images:
            digest.update(np.ascontiguousarray(image).tobytes())
        return {"kind": "arrays", "records": len(self), "sha256": digest.hexdigest()}


class FolderSource:
    """Images below a folder, in the order of their paths.

    Where every image of a split lies in a sub-folder, the first sub-folder's name is its label.

    Args:
      folder: where to look, at any depth.
      split: a tfds split expression over the folder's sub-folders, or over `all`, which is every
        image below it; a share of a split (`all[:90%]`) is drawn over a fixed shuffle of it.
      classes: the labels' names in order, where another split has settled them.

    Raises:
      UsageError: no such folder, no image in it, no such split, or a label not in `classes`.
    """

    def __init__(self, folder: str, split: str, classes: Sequence[str] = ()):
        self._root = Path(folder)
        if not self._root.is_dir():
            raise UsageError(f"data.folder {folder!r} is not a folder")
        splits = _folder_splits(_image_paths(self._root))
        if not splits["all"]:
            raise UsageError(
                f"data.folder {folder!r} has no images; known are files ending in "
                f"{', '.join(SUFFIXES)}"
            )
        self._paths: list[Path] = []
        names: list[str | None] = []
        for part, start, stop in _absolute_splits(split, splits):
            files, depth = splits[part], 0 if part == "all" else 1
            # Shares of a sorted list would be whole classes, so they are cut from a shuffle.
            order = np.sort(np.random.default_rng(0).permutation(len(files))[start:stop])
            self._paths += [files[i] for i in order]
            labelled = all(len(path.parts) > depth + 1 for path in files)
            names += [files[i].parts[depth] if labelled else None for i in order]
        if not self._paths:
            raise UsageError(f"data split {split!r} of folder {folder!r} is empty")
        if None in names:
            self.classes, self._labels = [], np.full(len(names), NO_LABEL, np.int32)
            return
        self.classes = list(classes) or sorted(set(names))
        index = {name: i for i, name in enumerate(self.classes)}
        for path, name in zip(self._paths, names, strict=True):
            if name not in index:
                raise UsageError(
                    f"data split {split!r} has a class {name!r} ({path}) that the training "
                    "split does not have"
                )
        self._labels = np.array([index[name] for name in names], np.int32)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Record:
        path = self._paths[index]
        return Record((self._root / path).read_bytes(), int(self._labels[index]), str(path))

    def labels(self) -> np.ndarray:
        return self._labels

    def fingerprint(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for path in self._paths:
            digest.update(f"{path}\0{(self._root / path).stat().st_size}\0".encode())
        return {"kind": "folder", "records": len(self), "sha256": digest.hexdigest()}


class FileSource:
    """One image file, without a label."""

    classes: Sequence[str] = ()

    def __init__(self, path: str | Path):
        self._path = Path(path)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Record:
        return Record(self._path.read_bytes(), NO_LABEL, self._path.name)

    def labels(self) -> np.ndarray:
        return np.array([NO_LABEL], np.int32)

    def fingerprint(self) -> dict[str, Any]:
        digest = hashlib.sha256(self._path.read_bytes()).hexdigest()
        return {"kind": "file", "records": 1, "sha256": digest}


class TfdsSource:
    """A tfds data set, prepared on first use, read through `tfds.data_source`.

    Args:
      name: as tfds spells it, with a config and version if wanted.
      split: a tfds split expression.
      data_dir: where tfds keeps its data sets; its own default otherwise.

    Raises:
      UsageError: no such data set or split, no images in it, or it cannot be prepared.
    """

    def __init__(self, name: str, split: str, data_dir: str | None = None):
        import tensorflow_datasets as tfds

        from mae_jax.data import digits  # noqa: F401  registers the embedded data set

        builder = _builder(tfds, name, data_dir)
        self._split, self._name = split, name
        features = dict(builder.info.features.items())
        if not isinstance(features.get("image"), tfds.features.Image):
            raise UsageError(f"data.name {name!r} has no feature `image`")
        _absolute_splits(
            split, {part: range(info.num_examples) for part, info in builder.info.splits.items()}
        )
        label = features.get("label")
        self.classes = list(label.names) if isinstance(label, tfds.features.ClassLabel) else []
        self._source = builder.as_data_source(
            split=split, decoders={"image": tfds.decode.SkipDecoding()}
        )
        if not len(self._source):
            raise UsageError(f"data split {split!r} of {name!r} is empty")
        self._version, self._label_cache = str(builder.info.version), None

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        example = self._source[index]
        label = int(example["label"]) if self.classes else NO_LABEL
        return Record(example["image"], label, f"{self._name}:{self._split}[{index}]")

    def labels(self) -> np.ndarray:
        if not self.classes:
            return np.full(len(self), NO_LABEL, np.int32)
        if self._label_cache is None:
            self._label_cache = np.array([int(e["label"]) for e in self._source], np.int32)
        return self._label_cache

    def fingerprint(self) -> dict[str, Any]:
        return {
            "kind": "tfds",
            "name": self._name,
            "version": self._version,
            "split": self._split,
            "records": len(self),
        }


class Subset:
    """Some records of another source, in a given order."""

    def __init__(self, source: Source, indices: Sequence[int]):
        self._source, self._indices = source, np.asarray(indices)
        self.classes = source.classes

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Record:
        return self._source[int(self._indices[index])]

    def labels(self) -> np.ndarray:
        return self._source.labels()[self._indices]

    def fingerprint(self) -> dict[str, Any]:
        chosen = hashlib.sha256(self._indices.astype("<i8").tobytes()).hexdigest()
        return {"kind": "subset", "chosen": chosen, "of": self._source.fingerprint()}


def open_source(data, split: str, classes: Sequence[str] = ()) -> Source:
    """The records of one split, as the config's `data` section says.

    Args:
      data: the config's section.
      split: a tfds split expression.
      classes: the names of the labels, where the training split has settled them.

    Raises:
      UsageError: the data is not there, or not as the config says.
    """
    if data.folder is not None:
        return FolderSource(data.folder, split, classes)
    return TfdsSource(data.name, split, data.dir)


def open_images(path: str | Path) -> Source:
    """The images below a folder, or the one a file holds.

    Raises:
      UsageError: there is no such file or folder, or no image in it.
    """
    if Path(path).is_file():
        return FileSource(path)
    if not Path(path).is_dir():
        raise UsageError(f"images {str(path)!r} are neither a folder nor a file")
    return FolderSource(str(path), "all")


def _builder(tfds, name, data_dir):
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except tfds.core.DatasetNotFoundError:
        close = ", ".join(_close_names(tfds, name))
        raise UsageError(
            f"data.name {name!r} is not a tfds data set"
            + (f"; did you mean {close}?" if close else "")
        ) from None
    except (ValueError, AssertionError, ImportError) as error:
        raise UsageError(f"data.name {name!r}: {_first_line(error)}") from None
    if not builder.is_prepared():
        if not sys.stderr.isatty():
            tfds.disable_progress_bar()
        try:
            builder.download_and_prepare()
        except ImportError:
            raise UsageError(
                f"data.name {name!r} is not prepared yet, which needs TensorFlow; "
                "pip install 'mae_jax[tensorflow]'"
            ) from None
        except (AssertionError, OSError, tfds.download.DownloadError) as error:
            raise UsageError(
                f"data.name {name!r} could not be prepared: {_first_line(error)}"
            ) from None
    return builder


def _close_names(tfds, name):
    import difflib

    return difflib.get_close_matches(name, tfds.list_builders(), 3)


def _first_line(error):
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _image_paths(root):
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in path.parts)
    )


def _folder_splits(paths):
    splits = {"all": paths}
    for path in paths:
        if len(path.parts) > 1:
            splits.setdefault(path.parts[0], []).append(path)
    return splits


@dataclasses.dataclass(frozen=True)
class _Length:
    """What tfds' split expressions ask of a split."""

    num_examples: int


def _absolute_splits(expression, splits) -> list[tuple[str, int, int]]:
    """(name, start, stop) for each part of a tfds split expression."""
    import tensorflow_datasets as tfds

    if expression.startswith("all[") and "all" in splits:
        # tfds does not slice `all`; under any other name it does.
        splits = {("everything" if k == "all" else k): v for k, v in splits.items()}
        parts = _absolute_splits("everything" + expression[3:], splits)
        return [("all", start, stop) for _, start, stop in parts]
    if expression == "all" and "all" in splits:
        return [("all", 0, len(splits["all"]))]
    lengths = {name: _Length(len(records)) for name, records in splits.items()}
    try:
        parts = tfds.core.ReadInstruction.from_spec(expression).to_absolute(lengths)
    except (ValueError, AssertionError, NotImplementedError):
        raise UsageError(
            f"data split {expression!r} is unknown; known are {', '.join(sorted(splits))}, and "
            "parts of them such as "
            f"{sorted(splits)[0]}[:90%]"
        ) from None
    return [
        (
            part.splitname,
            0 if part.from_ is None else part.from_,
            len(splits[part.splitname]) if part.to is None else part.to,
        )
        for part in parts
    ]

"""tfds data sets, prepared as array_record and read record by record."""

import contextlib
import json
import os
import re
import sys
from typing import Any

import numpy as np
from etils import epath

from mae_jax.data import debian, splits
from mae_jax.data.quiet import quiet_tensorflow
from mae_jax.data.records import NO_LABEL, Record, Source
from mae_jax.errors import BrokenRecord, UsageError

_READ_AT_ONCE = 2_000  # records that are read whenever their labels are of use, at most
_CHUNK = 512  # records at a time, when labels are read: a fourth of the time of one by one
# Labels that were read, by a set's folder, when it was made, and part: many runs of one process
# share a set.
_labels_read: dict[tuple[str, float, str], np.ndarray] = {}

_TFDS = "tensorflow_datasets."
_NAMING = ("pythonClassName", "python_class_name", "type")  # keys of a class, in features.json


class TfdsSource(Source):
    """A tfds data set, prepared on first use, read through `tfds.data_source`.

    Args:
      name: as tfds spells it, with a config and version if wanted.
      split: a tfds split expression.
      data_dir: where tfds keeps its data sets; its own default otherwise.

    Raises:
      UsageError: no such data set or split, no images in it, or it cannot be prepared.
    """

    def __init__(self, name: str, split: str, data_dir: str | None = None):
        quiet_tensorflow()
        import tensorflow_datasets as tfds

        from mae_jax.data import digits  # noqa: F401  registers the embedded data set

        builder = _builder(tfds, name, data_dir)
        self._split, self._name = split, name
        try:
            self._open(tfds, builder)
        except UsageError:
            raise
        except Exception as error:  # what a set says of itself may be anything
            raise UsageError(f"data.name {name!r} cannot be read: {_first_line(error)}") from error
        if not len(self._source):
            raise UsageError(f"data split {split!r} of {name!r} is empty")
        self._version = str(builder.info.version)

    def _open(self, tfds, builder):
        features = dict(builder.info.features.items())
        if not isinstance(features.get("image"), tfds.features.Image):
            raise UsageError(f"data.name {self._name!r} has no feature `image`")
        parts = splits.absolute(
            self._split,
            {part: range(info.num_examples) for part, info in builder.info.splits.items()},
        )
        label = features.get("label")
        if isinstance(label, tfds.features.ClassLabel):
            self.classes = list(label.names)
        else:
            self.unlabelled = "it has no feature `label` of classes"
        split = "+".join(f"{part}[{start}:{stop}]" for part, start, stop in parts)
        self._parts_taken = parts
        self._ends = np.cumsum([stop - start for _, start, stop in parts])
        made = epath.Path(builder.data_path, "dataset_info.json").stat().mtime
        self._key = os.fspath(builder.data_path), made, split
        self._source = builder.as_data_source(
            split=split, decoders={"image": tfds.decode.SkipDecoding()}
        )

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        try:
            example = self._source[index]
        except (RuntimeError, ValueError, OSError) as error:
            raise BrokenRecord(f"{self.name(index)}: {_first_line(error)}") from None
        label = int(example["label"]) if self.classes else NO_LABEL
        return Record(example["image"], label, self.name(index))

    def name(self, index: int) -> str:
        """As tfds would slice it out: another split has the same record under the same name."""
        place = int(np.searchsorted(self._ends, index, side="right"))
        part, _, stop = self._parts_taken[place]
        return f"{self._name}:{part}[{stop - int(self._ends[place]) + index}]"

    def labels(self) -> np.ndarray:
        if not self.classes:
            return np.full(len(self), NO_LABEL, np.int32)
        if self._key not in _labels_read:
            starts = range(0, len(self), _CHUNK)
            read = [self._read_labels(range(len(self))[at : at + _CHUNK]) for at in starts]
            _labels_read[self._key] = np.concatenate(read)
        return _labels_read[self._key]

    def _read_labels(self, indices):
        try:
            found = [example["label"] for example in self._source.__getitems__(indices)]
        except (RuntimeError, ValueError, OSError):
            found = [self[index].label for index in indices]  # which says whose cannot be read
        return np.array(found, np.int32)

    def known_labels(self) -> np.ndarray | None:
        read = self._key not in _labels_read and len(self) > _READ_AT_ONCE
        return None if self.classes and read else self.labels()

    def fingerprint(self) -> dict[str, Any]:
        return {
            "kind": "tfds",
            "name": self._name,
            "version": self._version,
            "split": self._split,
            "records": len(self),
        }


def _builder(tfds, name, data_dir):
    data_dir = data_dir and os.path.expanduser(data_dir)
    _check_names_no_code(name, data_dir)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for a verb's --json
            builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
            if builder.is_prepared():
                return builder
            if not sys.stderr.isatty():
                tfds.disable_progress_bar()
            builder.download_and_prepare(**debian.settings(builder))
            return builder
    except tfds.core.DatasetNotFoundError:
        close = ", ".join(_close_names(tfds, name))
        raise UsageError(
            f"data.name {name!r} is not a tfds data set"
            + (f"; did you mean {close}?" if close else "")
        ) from None
    except UsageError:
        raise
    except Exception as error:  # whatever downloads and scripts of data sets may raise
        raise UsageError(f"data.name {name!r} {_reason(error)}{debian.hint(name)}") from error


def _check_names_no_code(name, data_dir):
    """A set names the classes of its features, whose modules tfds imports, whatever they are.

    Raises:
      UsageError: one is not tfds' own.
    """
    from tensorflow_datasets.core.utils import file_utils

    below = re.split("[/:]", name)[0]
    for folder in file_utils.list_data_dirs(data_dir):
        root = epath.Path(folder, below)
        with contextlib.suppress(OSError):
            # Of a version; or of a config, and its version.
            for path in [*root.glob("*/features.json"), *root.glob("*/*/features.json")]:
                for named in _classes_named(path.read_text()):
                    if not named.startswith(_TFDS):
                        raise UsageError(
                            f"{os.fspath(path)!r} names {named!r}, which is not tfds' own; nothing "
                            "that comes with a data set is run"
                        )


def _classes_named(text):
    try:
        waiting = [json.loads(text)]
    except (ValueError, RecursionError):
        return  # as tfds will say
    while waiting:
        node = waiting.pop()
        waiting += (
            node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        )
        if isinstance(node, dict):
            yield from (str(node[key]) for key in _NAMING if "." in str(node.get(key)))


def _reason(error: BaseException) -> str:
    """Why a data set cannot be had: something that is not installed, or what tfds says."""
    at: BaseException | None = error
    while at is not None:  # tfds wraps some errors in others of the same type
        if isinstance(at, ModuleNotFoundError) and at.name:
            package = at.name.partition(".")[0]
            if package == "tensorflow":
                return (
                    "is not prepared here, and to find and prepare data sets TensorFlow is needed; "
                    "pip install 'mae_jax[tensorflow]'"
                )
            package = {"huggingface_hub": "datasets"}.get(package, package)  # which brings it
            return f"needs the package {package}, which is not installed; pip install {package}"
        at = at.__cause__ or at.__context__
    return f"could not be prepared: {_first_line(error)}"


def _close_names(tfds, name):
    import difflib

    try:
        return difflib.get_close_matches(name, tfds.list_builders(), 3)
    except Exception:  # it looks on disks and in the net, and is only a help
        return []


def _first_line(error):
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

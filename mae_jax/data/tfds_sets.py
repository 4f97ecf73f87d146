"""tfds data sets, prepared as array_record and read record by record."""

import contextlib
import sys
from typing import Any

import numpy as np

from mae_jax.data import splits
from mae_jax.data.quiet import quiet_tensorflow
from mae_jax.data.records import NO_LABEL, Record
from mae_jax.errors import BrokenRecord, UsageError


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
        quiet_tensorflow()
        import tensorflow_datasets as tfds

        from mae_jax.data import digits  # noqa: F401  registers the embedded data set

        builder = _builder(tfds, name, data_dir)
        self._split, self._name = split, name
        features = dict(builder.info.features.items())
        if not isinstance(features.get("image"), tfds.features.Image):
            raise UsageError(f"data.name {name!r} has no feature `image`")
        splits.absolute(
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
        try:
            example = self._source[index]
        except (RuntimeError, ValueError, OSError) as error:
            raise BrokenRecord(f"{self.name(index)}: {_first_line(error)}") from None
        label = int(example["label"]) if self.classes else NO_LABEL
        return Record(example["image"], label, self.name(index))

    def name(self, index: int) -> str:
        return f"{self._name}:{self._split}[{index}]"

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
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for a verb's --json
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

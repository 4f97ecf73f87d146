"""Labels from a table: a CSV file that names images of a folder and their classes."""

import csv
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mae_jax.data.formats import table
from mae_jax.data.records import NO_LABEL, Record, Source
from mae_jax.errors import UsageError

COLUMNS = ("name", "class")  # as `mae-jax predict` writes them, so that its table can be corrected
_ALSO = (table.PATHS, table.LABELS)  # what they may be called instead


class Labelled(Source):
    """Another source, with the labels of a table and no others.

    Args:
      source: the records.
      labels: of some of all records there are, by name.
      classes: the labels' names in order, where another split has settled them.

    Raises:
      UsageError: a class is none of `classes`.
    """

    def __init__(self, source: Source, labels: dict[str, str], classes: Sequence[str] = ()):
        self._source = source
        self.classes = list(classes) or sorted(set(labels.values()))
        number = {name: i for i, name in enumerate(self.classes)}
        unknown = sorted(set(labels.values()) - number.keys())
        if unknown:
            raise UsageError(
                f"data.labels has a class {unknown[0]!r} that the training split does not have"
            )
        names = (labels.get(source.name(index)) for index in range(len(source)))
        self._labels = np.array([NO_LABEL if n is None else number[n] for n in names], np.int32)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        record = self._source[index]
        return Record(record.data, int(self._labels[index]), record.name)

    def name(self, index: int) -> str:
        return self._source.name(index)

    def labels(self) -> np.ndarray:
        return self._labels

    def fingerprint(self) -> dict[str, Any]:
        digest = hashlib.sha256(self._labels.astype("<i4").tobytes())
        digest.update("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        return {
            "kind": "labelled",
            "labels": digest.hexdigest(),
            "of": self._source.fingerprint(),
        }


def read(path: str, everything: Source) -> dict[str, str]:
    """The classes of images by their names.

    Rows without a class are of images that nobody has labelled yet.

    Args:
      path: of a CSV file with a head line and the columns `name` and `class`, among others, or what
        tables of files call these (`formats.table`).
      everything: all records that it may name.

    Raises:
      UsageError: it cannot be read, lacks a column, contradicts itself, names an image that is not
        there, or holds no label.
    """
    labels: dict[str, str] = {}
    known = {everything.name(index) for index in range(len(everything))}
    try:
        with open(
            os.path.expanduser(path), newline="", encoding="utf-8-sig", errors="surrogateescape"
        ) as file:
            rows = csv.DictReader(file)
            columns = _columns(path, rows.fieldnames or [])
            for row in rows:
                name, label = (row[column] or "" for column in columns)
                label = label.strip()
                if not label:
                    continue
                if name not in known:
                    raise UsageError(
                        f"data.labels {path!r} names {name!r} in line {rows.line_num}, which is no "
                        "image of the data; names are paths below the folder, such as "
                        f"{everything.name(0)!r}"
                    )
                if labels.setdefault(name, label) != label:
                    raise UsageError(
                        f"data.labels {path!r} calls {name!r} {labels[name]!r} and, in line "
                        f"{rows.line_num}, {label!r}"
                    )
    except OSError as error:
        raise UsageError(f"data.labels {path!r} cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise UsageError(f"data.labels {path!r} is no table: {error}") from None
    if not labels:
        raise UsageError(f"data.labels {path!r} gives no image a class")
    return labels


def _columns(path: str, heads: Sequence[str]) -> list[str]:
    """What the table calls its columns of names and classes."""
    found = []
    for column, names in zip(COLUMNS, _ALSO, strict=True):
        here = [name for name in (column, *names) if name in heads]
        if not here:
            separated = ", separated by commas" if any(";" in head for head in heads) else ""
            raise UsageError(
                f"data.labels {path!r} has no column {column!r}; its first line must name the "
                f"columns{separated}, name and class among them, and is {','.join(heads)!r}"
            )
        found.append(here[0])
    return found

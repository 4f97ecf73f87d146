"""Tables of files: CSV, JSON lines or Parquet with a path a row, and what is known of it."""

import csv
import json
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from mae_jax.data import files
from mae_jax.data.said import Said
from mae_jax.errors import UsageError

SUFFIXES = (".csv", ".jsonl", ".parquet")
# What columns are called: as here first, or as elsewhere.
PATHS = ("path", "file_name", "name", "filename")
LABELS = ("label", "class", "labels")
_COLUMNS = {
    "path": PATHS,
    "label": LABELS,
    "split": ("split",),
    "group": ("group",),
}


class TableFiles(files.Listed):
    """Files that a table names, in its order; paths are as seen from where the table lies.

    Raises:
      UsageError: it cannot be read, has no column of paths, or names a file twice or one that is
        not there.
    """

    def __init__(self, path: str):
        self._root = os.path.dirname(os.path.abspath(path))
        rows = list(_rows(path))
        if not rows:
            raise UsageError(f"table {path!r} has no rows")
        heads = list(dict.fromkeys(name for _, row in rows for name in row))
        columns = _columns(path, heads)
        found = {
            column: [_stripped(row.get(name)) for _, row in rows]
            for column, name in columns.items()
        }
        seen: dict[str, int] = {}
        sizes = []
        for (number, _), name in zip(rows, found["path"], strict=True):
            if not isinstance(name, str) or not name or "\0" in name:
                raise UsageError(f"table {path!r} has no path in row {number}, but {name!r}")
            place = os.path.normpath(os.path.join(self._root, name))
            if seen.setdefault(place, number) != number:
                raise UsageError(
                    f"table {path!r} names {name!r} twice, in rows {seen[place]} and {number}"
                )
            sizes.append(self._size_of(name, path, number))
        super().__init__(found["path"], sizes)
        given = {f"{column}s": values for column, values in found.items() if column != "path"}
        self.said = Said.of_rows(
            f"table {path!r}",
            **given,
            unlabelled=f"the table has no labels in a column label; it has {', '.join(heads)}",
        )

    def _size_of(self, name, path, number):
        try:
            found = os.stat(os.path.join(self._root, name))
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("it is no file")
            return found.st_size
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(
                f"table {path!r} names {name!r} in row {number}: {reason}; paths are as seen from "
                "the table's folder, or absolute"
            ) from None

    def read(self, index: int) -> bytes:
        return files.read(self.place(index), self.name(index))

    def place(self, index: int) -> str:
        return os.path.join(self._root, self.name(index))


def _rows(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their numbers, from 1."""
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix == ".parquet":
            yield from enumerate(_of_parquet(path), 1)
            return
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            if suffix == ".csv":
                yield from _of_csv(path, file)
                return
            lines = (line for line in file if line.strip())
            for number, line in enumerate(lines, 1):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise UsageError(f"table {path!r}: row {number} is no object of columns")
                yield number, row
    except OSError as error:
        raise UsageError(f"table {path!r} cannot be read: {error.strerror or error}") from None
    except (csv.Error, ValueError, RecursionError) as error:
        raise UsageError(f"table {path!r} is no table: {error}") from None


def _of_csv(path, file):
    lines = csv.reader(file, strict=True)
    heads = [name.strip() for name in next(lines, [])]
    twice = next((name for name in heads if heads.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"table {path!r} has two columns {twice!r}; drop one")
    for number, cells in enumerate((cells for cells in lines if cells), 1):
        if len(cells) != len(heads):
            raise UsageError(
                f"table {path!r} has {len(cells)} cells in row {number}, and {len(heads)} columns; "
                "a comma in a cell needs quotes around it"
            )
        yield number, dict(zip(heads, cells, strict=True))


def _stripped(value):
    return value.strip() if isinstance(value, str) else value


def _of_parquet(path: str) -> Iterator[dict[str, Any]]:
    from mae_jax.data.formats import parquet

    file = parquet.opened(path)
    wanted = [name for names in _COLUMNS.values() for name in names]
    # Without any of these there is one column at least, whose names the message shows.
    columns = [name for name in file.schema_arrow.names if name in wanted]
    for batch in file.iter_batches(columns=columns or None):
        yield from batch.to_pylist()


def _columns(path: str, heads: Sequence[str]) -> dict[str, str]:
    """What the table calls the columns that are known here."""
    found = {}
    for column, names in _COLUMNS.items():
        here = [name for name in names if name in heads]
        if len(here) > 1:
            raise UsageError(f"table {path!r} has both {here[0]!r} and {here[1]!r}; drop one")
        if here:
            found[column] = here[0]
    if "path" not in found:
        raise UsageError(f"table {path!r} has no column path; it has {', '.join(heads)}")
    return found

"""Parquet files with a column of images, as Hugging Face's data sets have them.

An image is read with its whole row group: in order that is fast, at random it is not.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mae_jax.data.files import Files
from mae_jax.data.names import Names
from mae_jax.data.progress import say
from mae_jax.data.said import Said
from mae_jax.data.split_names import split_of
from mae_jax.errors import BrokenRecord, UsageError

IMAGES = ("image", "img")  # what the column is called, where several could be it
_HELD = 128 * 2**20  # bytes of row groups that are kept, at most, but for the last one
LABELS = ("label", "labels", "class", "fine_label")


class ParquetFiles(Files):
    """Images in a column of Parquet files, in their order.

    A row's name is its file's and its number.

    Args:
      folder: of the files.
      shards: paths below it.

    Raises:
      UsageError: a file cannot be read, has no images, or differs from the first in its columns.
    """

    def __init__(self, folder: str, shards: Sequence[str]):
        self._paths = [os.path.join(folder, shard) for shard in shards]
        described: dict[str, tuple[str, ...]] = {}  # what files with labels say of their classes
        groups: list[tuple[int, int, int, int]] = []  # shard, row group, rows, bytes
        names, labels, splits = [], [], []
        for at, (shard, path) in enumerate(zip(shards, self._paths, strict=True)):
            file = opened(path)
            if at == 0:
                schema = file.schema_arrow
                self._column = image_column(path, _image_columns(schema), schema.names)
            if self._column not in file.schema_arrow.names:
                raise UsageError(f"{path!r} has no column {self._column!r}")
            for group in range(file.num_row_groups):
                about = file.metadata.row_group(group)
                groups.append((at, group, about.num_rows, about.total_byte_size))
            rows = file.metadata.num_rows
            names += [f"{shard}/{row:08d}" for row in range(rows)]
            splits += [split_of(shard)] * rows
            label, classes = _label_column(file.schema_arrow)
            if label is None:
                labels += [None] * rows
                continue
            described[path] = classes
            with _told(path):
                labels += file.read(columns=[label]).column(0).to_pylist()
        for path, classes in described.items():
            first = next(iter(described))
            if classes != described[first]:
                raise UsageError(f"{path!r} has other classes than {first!r}, or in another order")
        if not names:
            raise UsageError(f"data.folder {folder!r} has no rows in {len(shards)} Parquet files")
        self._names = Names(names)
        self._groups = np.array(groups, np.int64)
        self._ends = np.cumsum(self._groups[:, 2])
        self._sizes = [os.path.getsize(path) for path in self._paths]
        self.said = Said.of_rows(
            f"data.folder {folder!r}",
            labels=labels if described else None,
            classes=next(iter(described.values()), ()),
            splits=splits if any(splits) else None,
            unlabelled="its Parquet files have no column label",
        )
        self._held: tuple[tuple[int, Any], ...] = ()  # row groups that were read last
        if self._groups[:, 2].max() > 1:
            _advise(folder, int(self._groups[:, 2].max()))

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return self._names[index]

    def size(self, index: int) -> int:
        _, _, rows, size = self._groups[self._place(index)[0]]
        return int(size // max(rows, 1))

    def read(self, index: int) -> bytes:
        group, row = self._place(index)
        images = dict(self._held).get(group)
        if images is None:
            images = self._read(group, self.name(index))
        shard = self._paths[int(self._groups[group, 0])]
        data = image_bytes(images[row].as_py(), os.path.dirname(shard))
        if data is None:
            raise BrokenRecord(f"{self.name(index)}: its row has no image")
        return data

    def fingerprint(self, indices: Sequence[int]) -> dict[str, Any]:
        digest = hashlib.sha256(json.dumps([self._groups.tolist(), self._sizes]).encode())
        digest.update(np.asarray(indices, "<i8").tobytes())
        return {
            "kind": "parquet",
            "records": len(indices),
            "bytes": sum(self._sizes),
            "sha256": digest.hexdigest(),
        }

    def _place(self, index: int) -> tuple[int, int]:
        group = int(np.searchsorted(self._ends, index, side="right"))
        return group, index - int(self._ends[group - 1] if group else 0)

    def _read(self, group: int, name: str) -> Any:
        shard, within, *_ = (int(value) for value in self._groups[group])
        try:
            table = opened(self._paths[shard]).read_row_group(within, columns=[self._column])
        except (OSError, ValueError, UsageError) as error:
            raise BrokenRecord(f"{name}: {' '.join(str(error).split())}") from None
        held, room = [], _HELD
        for at, images in ((group, table.column(0)), *self._held):
            room -= images.nbytes
            if room < 0 and held:
                break
            held.append((at, images))
        self._held = tuple(held)
        return held[0][1]

    def __getstate__(self):
        return self.__dict__ | {"_held": ()}


def opened(path: str) -> Any:
    """A Parquet file, of pyarrow.

    Raises:
      UsageError: pyarrow is not here, or the file is not one.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        raise UsageError(f"{path!r} needs pyarrow: pip install 'mae_jax[parquet]'") from None
    with _told(path):
        return parquet.ParquetFile(path)


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path!r} is no Parquet file that can be read: {reason}") from None


def has_images(path: str, paths: Sequence[str]) -> bool:
    """Whether a Parquet file has images in it, rather than paths of some.

    Args:
      paths: what a column of these would be called: beside it other bytes are no images.
    """
    import pyarrow as pa

    schema = opened(path).schema_arrow
    found = _image_columns(schema)
    sure = [n for n in found if n in IMAGES or pa.types.is_struct(schema.field(n).type)]
    return bool(sure or (found and not set(paths) & set(schema.names)))


def image_bytes(value: Any, folder: str) -> bytes | None:
    """The encoded image of a cell: its bytes, or those of the file that it names."""
    if isinstance(value, dict):
        if value.get("bytes") is not None:
            return value["bytes"]
        path = value.get("path")
        if not path:
            return None
        from mae_jax.data import files

        return files.read(os.path.join(folder, path), path)
    return value


def class_names(schema, column: str) -> tuple[str, ...]:
    """What Hugging Face's description in a schema calls a column's numbers; () if nothing."""
    described = (schema.metadata or {}).get(b"huggingface")
    try:
        feature = json.loads(described)["info"]["features"][column]
        return tuple(map(str, feature["names"]))
    except (TypeError, ValueError, KeyError):
        return ()


def _label_column(schema) -> tuple[str | None, tuple[str, ...]]:
    found = next((name for name in LABELS if name in schema.names), None)
    return found, class_names(schema, found) if found else ()


def _image_columns(schema) -> list[str]:
    import pyarrow as pa

    def holds(kind):
        if pa.types.is_struct(kind):
            return "bytes" in {field.name for field in kind}
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    return [field.name for field in schema if holds(field.type)]


def image_column(place: str, found: Sequence[str], columns: Sequence[str]) -> str:
    """Which column to take of those that were found to hold images, among all.

    Raises:
      UsageError: there is none, or several that might be meant.
    """
    if len(found) > 1:
        found = [name for name in IMAGES if name in found][:1] or found
    if len(found) != 1:
        raise UsageError(
            f"{place!r} has {len(found)} columns of images among {', '.join(columns)}; one is "
            f"expected, or one called {IMAGES[0]}"
        )
    return found[0]


@functools.cache
def _advise(folder: str, rows: int) -> None:
    say(
        f"{folder}: Parquet files give an image with up to {rows - 1} others, which is slow at "
        f"random; mae-jax data prepare {folder} --out=SET makes a set that is not"
    )

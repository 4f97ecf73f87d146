"""Prepared sets: images of a folder in shards of array_record, with names and checksums.

A set is a folder with `dataset.json` (what it was made of, and of every shard its file, records,
bytes and SHA-256), `names.json` (the images' paths in the folder they came from, in order, from
which splits and labels follow), `said.json` (splits and labels, where the source's format said
them), and the shards. A record is a header (CRC-32 of the image, length
of its name), its name and the file's bytes.
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python import array_record_module

from mae_jax.data.files import Files
from mae_jax.data.names import Names
from mae_jax.data.said import Said
from mae_jax.errors import BrokenRecord, UsageError

VERSION = 1
PARTS = ".parts"  # in a set's folder: what is done of it, until all is
_HEADER = struct.Struct("<II")
_ABOUT, _NAMES, _SAID = "dataset.json", "names.json", "said.json"
# One record at a time is read, in no order.
_READER = "readahead_buffer_size:0"
_WRITER = "group_size:1,uncompressed"  # images are compressed already


def is_prepared(folder: str | Path) -> bool:
    """Whether a folder holds a prepared set."""
    return os.path.isfile(os.path.join(folder, _ABOUT))


def write_shard(path: Path, records: Iterator[tuple[str, bytes]]) -> dict[str, Any]:
    """Writes one shard; returns its entry in dataset.json and the names in it.

    Args:
      path: of the shard, which appears only when it is whole.
      records: names and encoded images.
    """
    making = path.with_name(f".{path.name}")
    writer = array_record_module.ArrayRecordWriter(str(making), _WRITER)
    names = []
    try:
        for name, data in records:
            encoded = name.encode("utf-8", "surrogateescape")
            writer.write(_HEADER.pack(zlib.crc32(data), len(encoded)) + encoded + data)
            names.append(name)
    finally:
        writer.close()
    with making.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    making.replace(path)
    return {
        "file": path.name,
        "records": len(names),
        "bytes": path.stat().st_size,
        "sha256": digest,
        "names": names,
    }


def write_index(
    folder: Path, shards: Sequence[dict[str, Any]], about: dict[str, Any], said: Said | None = None
) -> str:
    """Makes of written shards a set; returns its fingerprint.

    Args:
      folder: that the shards lie in.
      shards: their entries, in order.
      about: what is kept in dataset.json beside them.
      said: of all the images in the shards.
    """
    names = [name for shard in shards for name in shard["names"]]
    entries = [{k: v for k, v in shard.items() if k != "names"} for shard in shards]
    digest = hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest()
    _replace(folder / _NAMES, names)
    if said is not None:
        _replace(folder / _SAID, said.as_json())
        about = about | {"said": True}
    content = {"version": VERSION, "records": len(names), "sha256": digest}
    _replace(folder / _ABOUT, content | about | {"shards": entries})
    return digest


def read_about(folder: str | Path) -> dict[str, Any]:
    """What a set's `dataset.json` says.

    Raises:
      UsageError: it cannot be read, is damaged, or is of another version.
    """
    try:
        about = json.loads((Path(folder) / _ABOUT).read_bytes())
        version, shards = about["version"], about["shards"]
        sound = isinstance(about["sha256"], str) and all(map(_is_entry, shards))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _incomplete(folder, error) from None
    if version != VERSION:
        raise UsageError(
            f"data.folder {str(folder)!r} was prepared as version {version}, and this reads "
            f"{VERSION}; prepare it again"
        )
    if not sound:
        raise _incomplete(folder, f"its {_ABOUT} is damaged")
    return about


def _is_entry(shard):
    """Of a shard that lies in the set's folder and nowhere else."""
    name, counts = shard["file"], (shard["records"], shard["bytes"])
    plain = isinstance(name, str) and os.path.basename(name) == name and "\0" not in name
    return plain and all(type(count) is int and 0 <= count < 2**62 for count in counts)


def _incomplete(folder, reason):
    return UsageError(f"data.folder {str(folder)!r} is no complete prepared set: {reason}")


class PreparedFiles(Files):
    """The files in a prepared set.

    Raises:
      UsageError: the set is of another version, or a shard is missing or has another size.
    """

    def __init__(self, folder: str):
        root, self.about = Path(folder), read_about(folder)
        shards = self.about["shards"]
        try:
            names = Names(json.loads((root / _NAMES).read_bytes()))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise _incomplete(folder, f"its {_NAMES}: {error}") from None
        for shard in shards:
            path = root / shard["file"]
            size = path.stat().st_size if path.is_file() else None
            if size != shard["bytes"]:
                found = "is missing" if size is None else f"has {size} bytes"
                raise UsageError(
                    f"data.folder {folder!r}: shard {shard['file']} {found}, and "
                    f"{shard['bytes']} were written; copy or prepare it again"
                )
        self._paths = [str(root / shard["file"]) for shard in shards]
        if len(names) != sum(shard["records"] for shard in shards):
            raise UsageError(f"data.folder {folder!r}: its names are not those of its shards")
        self._ends = np.cumsum([shard["records"] for shard in shards])
        self._names = names
        self.said = self._said(root) if self.about.get("said") else Said()
        self._readers: dict[int, Any] = {}

    def _said(self, root: Path) -> Said:
        try:
            said = Said.from_json(json.loads((root / _SAID).read_bytes()))
            said.check(len(self._names))
        except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as e:
            raise _incomplete(root, f"its {_SAID}: {e}") from None
        return said

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return self._names[index]

    def size(self, index: int) -> int:
        shard = self.about["shards"][int(np.searchsorted(self._ends, index, side="right"))]
        return shard["bytes"] // shard["records"]

    def read(self, index: int) -> bytes:
        shard = int(np.searchsorted(self._ends, index, side="right"))
        within = index - int(self._ends[shard - 1] if shard else 0)
        name, place = self._names[index], f"{Path(self._paths[shard]).name}[{within}]"
        try:
            if shard not in self._readers:
                self._readers[shard] = array_record_module.ArrayRecordReader(
                    self._paths[shard], _READER
                )
            record = self._readers[shard].read([within])[0]
            checksum, length = _HEADER.unpack_from(record)
        except (RuntimeError, ValueError, IndexError, OSError, struct.error) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BrokenRecord(f"{name} ({place}): {reason}") from None
        data = record[_HEADER.size + length :]
        if zlib.crc32(data) != checksum:
            raise BrokenRecord(f"{name} ({place}): its checksum is not what was written")
        return data

    def fingerprint(self, indices: Sequence[int]) -> dict[str, Any]:
        chosen = hashlib.sha256(np.asarray(indices, "<i8").tobytes()).hexdigest()
        return {
            "kind": "prepared",
            "version": self.about["version"],
            "records": len(indices),
            "bytes": int(sum(shard["bytes"] for shard in self.about["shards"])),
            "sha256": self.about["sha256"],
            "chosen": chosen,
        }

    def __getstate__(self):
        return self.__dict__ | {"_readers": {}}  # files stay open in the process that opened them


def _replace(path: Path, content: Any) -> None:
    making = path.with_name(f".{path.name}")
    making.write_text(json.dumps(content, indent=1, ensure_ascii=True))
    making.replace(path)

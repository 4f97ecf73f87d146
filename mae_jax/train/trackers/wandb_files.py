"""What W&B has written offline, read back: which step it came to.

A `.wandb` file is a log in LevelDB's format (https://github.com/google/leveldb/blob/main/doc/
log_format.md) with a header of 7 bytes and plain CRC-32s; each record is a protobuf of W&B's.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = 32768
_FILE_HEADER, _HEADER = 7, struct.Struct("<IHB")  # checksum, length, type
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def last_step(folder: Path, run: str) -> int:
    """The last step in the history of a run, over all of its starts; 0 without any.

    Args:
      folder: W&B's, with one folder for every start.
      run: its id.
    """
    return max((int(row["_step"]) for path in paths(folder, run) for row in rows(path)), default=0)


def paths(folder: Path, run: str) -> list[Path]:
    """The files of a run, the earlier first."""
    # Folders of starts within one second have a number at their ends.
    return sorted(folder.glob(f"*-{run}*/run-{run}.wandb"))


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a run's history in a file, as far as it is whole: a kill may tear it."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        try:
            record.ParseFromString(data)
        except DecodeError:
            return
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            yield {
                ".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items
            }


def _records(data: bytes) -> Iterator[bytes]:
    parts, at = b"", _FILE_HEADER
    while at + _HEADER.size <= len(data):
        if _BLOCK - at % _BLOCK < _HEADER.size:  # too little room for one more in this block
            at += _BLOCK - at % _BLOCK
            continue
        checksum, length, kind = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        part = data[at : at + length]
        at += length
        if len(part) < length or zlib.crc32(part, zlib.crc32(bytes([kind]))) != checksum:
            return
        parts = part if kind in (_WHOLE, _FIRST) else parts + part
        if kind in (_WHOLE, _LAST):
            yield parts

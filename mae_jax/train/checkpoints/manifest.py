"""What a checkpoint's files were when it was saved: sizes and checksums, in a file among them."""

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xxhash

from mae_jax import storage
from mae_jax.errors import NoUsableCheckpoint

NAME = "manifest.json"
DAMAGED = f"its {NAME} is damaged"
_KIND = "xxh3_128"
_THREADS = 4  # hashing is faster than most storage: these are to keep a network busy
_ITEMS = ("model", "position")  # in every checkpoint, those without a manifest too


def write(folder: Path) -> None:
    """Writes down what lies in a folder, by paths relative to it.

    The last line is a checksum of the first, so that a damaged manifest is known to be one.
    """
    storage.patiently(f"writing the manifest of {folder}", lambda: _write(folder))


def _write(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    files = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, found]
        for path, found in zip(paths, _checksums(paths), strict=True)
    }
    body = json.dumps({"hash": _KIND, "files": files})
    (folder / NAME).write_text(f"{body}\n{_of_text(body)}\n")


def damage(folder: Path, part: int = 0, parts: int = 1) -> str | None:
    """What is other than when the folder was written, as the end of a sentence; None if nothing.

    Files that the manifest does not name are not looked at: nothing reads them.

    Args:
      folder: with a manifest.
      part: the share of the files whose bytes are read, from 0.
      parts: how many processes read a share each. Names and sizes are looked at by all of them.

    Raises:
      StorageFaltered: the storage does not answer, so that nothing is known.
      NoUsableCheckpoint: a file may not be read.
    """
    try:
        return storage.patiently(f"reading {folder}", lambda: _damage(folder, part, parts))
    except OSError as error:
        raise NoUsableCheckpoint(f"{folder} cannot be read: {error}") from error


def _damage(folder, part, parts):
    try:
        body, found, rest = (folder / NAME).read_bytes().decode().split("\n")
        files = json.loads(body)["files"] if found == _of_text(body) and not rest else None
    except (ValueError, KeyError, FileNotFoundError):
        files = None
    if files is None:
        return DAMAGED
    for name, (size, _) in files.items():
        path = folder / name
        if not storage.is_there(path):
            return f"its file {name} is missing"
        if path.stat().st_size != size:
            return f"its file {name} has {path.stat().st_size} bytes of {size}"
    names = sorted(files)[part::parts]
    for name, found in zip(names, _checksums([folder / name for name in names]), strict=True):
        if found != files[name][1]:
            return f"its file {name} has other bytes than were saved"
    return None


def _checksums(paths):
    def checksum(path):
        with path.open("rb") as file:
            return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(checksum, paths))


def _of_text(text):
    return xxhash.xxh3_128(text.encode()).hexdigest()


def has_manifest(folder: Path) -> bool:
    """Whether there is one; checkpoints of versions before manifests have none."""
    return storage.is_there(folder / NAME)


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is a checkpoint of ours, damaged or not."""
    return bool(_step(path)) and (
        has_manifest(path) or all(storage.is_there(path / name) for name in _ITEMS)
    )


def steps(folder: Path) -> list[int]:
    """Of the checkpoints in a folder, damaged or not, in their order."""
    return sorted(int(name) for name in _named(folder, is_checkpoint))


def foreign(folder: Path) -> list[str]:
    """What lies in a folder, is named like a checkpoint, and is none."""
    return sorted(_named(folder, lambda path: _step(path) and not is_checkpoint(path)), key=int)


def _named(folder, wanted):
    # Of a folder that does not answer nothing would be known, and a run might begin anew.
    return storage.patiently(
        f"listing {folder}",
        lambda: [path.name for path in storage.entries(folder) if wanted(path)],
    )


def _step(path):
    return re.fullmatch(r"0|[1-9]\d*", path.name)


def set_aside(path: Path, why: str) -> Path:
    """Renames a folder to what is no checkpoint's name; `why` is one word of it."""
    number = 1
    while (aside := path.with_name(f"{path.name}.{why}-{number}")).exists():
        number += 1
    return path.rename(aside)


def damaged(folder: Path) -> list[str]:
    """The names of checkpoints that were set aside."""
    return _named(folder, lambda path: ".damaged-" in path.name)

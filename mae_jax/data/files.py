"""Image files by number, below a local folder or at a URL."""

import errno
import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mae_jax.data import arrays
from mae_jax.data.names import Names
from mae_jax.data.said import Said
from mae_jax.errors import BrokenRecord, UsageError

SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", *arrays.SUFFIXES,
)  # fmt: skip
_ADVICE = {
    (".mp4", ".mov", ".avi", ".mkv", ".webm"): "ffmpeg -i VIDEO -r 1 FOLDER/%06d.jpg makes images",
    (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"): "unpack them",
    (".heic", ".heif", ".avif", ".jxl", ".cr2", ".nef", ".dng", ".dcm", ".jp2"): (
        "convert them, to .png or .npy where they have more than 8 bits"
    ),
}
_SHOWING = tuple(suffix for suffixes in _ADVICE for suffix in suffixes)
_WAITS = (0.1, 1.0, 5.0)  # seconds before a read that failed is tried again


class Files(Protocol):
    """Files in an order that does not change, no two of one name.

    Attributes:
      said: what is known of them beside their names.
      left_out: in words, what else lies there that shows something and is not read; or nothing.
    """

    said: Said
    left_out: str = ""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Path below the folder, with slashes, or what stands for it."""
        ...

    def read(self, index: int) -> bytes:
        """Raises BrokenRecord."""
        ...

    def size(self, index: int) -> int:
        """In bytes, about."""
        ...

    def place(self, index: int) -> str | None:
        """Path of a local file that holds nothing else; None where it lies otherwise."""
        return None

    def fingerprint(self, indices: Sequence[int]) -> dict[str, Any]:
        """What identifies these of the files."""
        ...


class Listed(Files):
    """Names and sizes of files that were listed, in this order."""

    kind = "folder"
    said = Said()

    def __init__(self, names: Sequence[str], sizes: Sequence[int]):
        self._names = Names(names)
        self._sizes = np.array(sizes, np.int64)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        return self._names[index]

    def size(self, index: int) -> int:
        """In bytes."""
        return int(self._sizes[index])

    def fingerprint(self, indices: Sequence[int]) -> dict[str, Any]:
        digest = hashlib.sha256()
        for index in indices:
            digest.update(os.fsencode(f"{self.name(index)}\0{self._sizes[index]}\0"))
        return {
            "kind": self.kind,
            "records": len(indices),
            "bytes": int(self._sizes[indices].sum()),
            "sha256": digest.hexdigest(),
        }


class FolderFiles(Listed):
    """Image files below a folder of a local disk."""

    def __init__(self, folder: str):
        self._root = folder
        found = below(folder, lambda name: is_image(name) or ends(name, _SHOWING))
        others = Counter(os.path.splitext(name)[1].lower() for name in found if not is_image(name))
        self.left_out = ", ".join(f"{n} of {suffix}" for suffix, n in sorted(others.items()))
        super().__init__(*_images(found))

    def read(self, index: int) -> bytes:
        return read(self.place(index), self.name(index))

    def place(self, index: int) -> str:
        return os.path.join(self._root, self.name(index))


class UrlFiles(Listed):
    """Image files at a URL, on any file system that fsspec knows: gs://, s3://, https://, …

    Attributes:
      others: names of all files, where none is an image.
    """

    def __init__(self, url: str):
        import fsspec

        try:
            self._system, self._root = fsspec.core.url_to_fs(url)
            found = self._system.find(self._root, detail=True)
        except (OSError, ValueError, ImportError) as error:
            raise UsageError(f"data.folder {url!r} cannot be opened: {error}") from None
        root = self._root.rstrip("/") + "/"
        sizes = {p.removeprefix(root): int(e["size"] or 0) for p, e in found.items()}
        super().__init__(*_images(sizes))
        self.others = [] if len(self) else list(sizes)

    def read(self, index: int) -> bytes:
        path = f"{self._root.rstrip('/')}/{self.name(index)}"
        return persistently(lambda: self._system.cat_file(path), self.name(index))


def read(path: str, name: str) -> bytes:
    """The bytes of a local file.

    Raises:
      BrokenRecord: they cannot be read.
    """
    return persistently(lambda: Path(path).read_bytes(), name)


def persistently(read: Callable[[], bytes], name: str) -> bytes:
    """Reads, again after a while where that may help: file systems at a distance falter."""
    for wait in (*_WAITS, None):
        try:
            return read()
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise BrokenRecord(f"{name}: {error.strerror or type(error).__name__}") from None
        except OSError as error:
            if wait is None:
                raise BrokenRecord(f"{name}: {error}") from None
            time.sleep(wait)
    raise AssertionError("unreachable")


def others_in(folder: str) -> str:
    """What a local folder has in place of images, and how it would become some; for a message."""
    place, found = os.path.expanduser(folder), Counter()
    for _, _, names in os.walk(place):
        found.update(os.path.splitext(name)[1].lower() for name in names if name[0] != ".")
    if not found:
        return ""
    (suffix, count), *_ = found.most_common()
    told = f", but {count} of {suffix}" if suffix else ""
    for suffixes, advice in _ADVICE.items():
        if suffix in suffixes:
            told += f" ({advice})"
    return told


def is_image(name: str) -> bool:
    """Whether a file is an image, and not hidden, by its path."""
    return ends(name, SUFFIXES)


def ends(name: str, suffixes: str | tuple[str, ...]) -> bool:
    """Whether a file is of a kind, and not hidden, by its path."""
    return name.lower().endswith(suffixes) and not any(p.startswith(".") for p in name.split("/"))


def _images(found: dict[str, int]) -> tuple[list[str], list[int]]:
    """Names in order, and sizes."""
    names = sorted(name for name in found if is_image(name))
    return names, [found[name] for name in names]


def below(folder: str, wanted: Callable[[str], bool]) -> dict[str, int]:
    """Names and sizes of wanted files; links are followed, but never to what they lie in."""
    found: dict[str, int] = {}
    waiting: list[tuple[str, tuple[os.stat_result, ...]]] = [("", ())]
    while waiting:
        below, above = waiting.pop()
        path = os.path.join(folder, below)
        try:
            above = (*above, os.stat(path))
            with os.scandir(path) as entries:
                for entry in entries:
                    name = f"{below}{entry.name}"
                    if _leads_to(entry.is_dir):
                        circle = entry.is_symlink() and any(
                            os.path.samestat(entry.stat(), folder) for folder in above
                        )
                        if not entry.name.startswith(".") and not circle:
                            waiting.append((f"{name}/", above))
                    elif wanted(name) and _leads_to(entry.is_file):
                        found[name] = entry.stat().st_size
        except OSError as error:
            raise UsageError(f"data.folder {path!r} cannot be read: {error.strerror}") from None
    return found


def _leads_to(asked: Callable[[], bool]) -> bool:
    """The answer; no, of a link to itself, as of others that lead nowhere."""
    try:
        return asked()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise

"""WebDataset: images in tar files, where members of one key belong together.

Where each image lies is found once by reading through a shard's headers, and kept in the user's
cache folder, as long as the shard has the size and time it had. Then images are read by their
number, as from a folder.
"""

import collections
import concurrent.futures
import os
import tarfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mae_jax.data import files, kept
from mae_jax.data.progress import Progress
from mae_jax.data.said import Said
from mae_jax.data.split_names import is_split, split_of
from mae_jax.errors import BrokenRecord, UsageError

_VERSION = 1  # of what is kept
_THREADS = 8  # that read headers
_LABEL = ".cls"
_LONGEST_LABEL = 4096  # bytes
_PADDING = 2**20  # bytes of zeros at the end, at most


class _Image(NamedTuple):
    """Where an image lies in its shard, and the text of its label."""

    name: str
    offset: int
    size: int
    label: str | None


class TarFiles(files.Listed):
    """Images in uncompressed tar files, in the order they lie in.

    Their names are those in the shards, or, where two are equal, with the shard's before them.

    Args:
      folder: of the shards, or its URL.
      shards: paths below it.

    Raises:
      UsageError: a shard cannot be opened, ends too early, or there is no image in any.
    """

    kind = "tars"

    def __init__(self, folder: str, shards: Sequence[str]):
        self._system, self._paths = _places(folder, shards)
        progress = Progress(len(shards), what="shards", silent=True)
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            found = []
            for images in pool.map(self._images, self._paths):
                found.append(images)
                progress.did(1)
        names = [image.name for images in found for image in images]
        if not names:
            raise UsageError(f"data.folder {folder!r} has no image in {len(shards)} tar files")
        own = names
        if len(set(names)) < len(names):
            pairs = zip(shards, found, strict=True)
            names = [f"{shard}/{image.name}" for shard, images in pairs for image in images]
            twice = [name for name, times in collections.Counter(names).items() if times > 1]
            if twice:
                raise UsageError(f"data.folder {folder!r} has {twice[0]!r} twice")
        super().__init__(names, [image.size for images in found for image in images])
        self._offsets = np.array([i.offset for images in found for i in images], np.int64)
        self._shards = np.repeat(np.arange(len(shards), dtype=np.int32), [*map(len, found)])
        labels = [image.label for images in found for image in images]
        splits, unlabelled = [split_of(shards[shard]) for shard in self._shards], ""
        folders = [name.split("/")[:-1] for name in own]
        if all(path and is_split(path[0]) for path in folders):
            splits = [said or path[0] for said, path in zip(splits, folders, strict=True)]
            folders = [path[1:] for path in folders]
        if not any(labels):
            labels = [path[0] if path else None for path in folders]
            if not all(labels):
                unlabelled = "its tar files have no .cls, and not all images lie in class folders"
        self.said = Said.of_rows(
            f"data.folder {folder!r}",
            labels=None if unlabelled else labels,
            splits=splits if any(splits) else None,
            unlabelled=unlabelled,
        )

    def read(self, index: int) -> bytes:
        shard, name = int(self._shards[index]), self.name(index)
        start, size = int(self._offsets[index]), self.size(index)
        if self._system is not None:
            path = self._paths[shard]
            data = files.persistently(
                lambda: self._system.cat_file(path, start=start, end=start + size), name
            )
        else:
            data = files.persistently(lambda: _read(self._paths[shard], size, start), name)
        if len(data) != size:
            raise BrokenRecord(f"{name}: its shard {self._paths[shard]} ends too early")
        return data

    def _images(self, path: str) -> list[_Image]:
        """What a shard holds, from what was kept or from the shard."""
        try:
            state = _state(self._system, path)
        except OSError as error:
            raise UsageError(f"shard {path!r} cannot be read: {_reason(error)}") from None
        place, state = _place(self._system, path), {"version": _VERSION, **state}
        content = kept.read("tars", place, state)
        try:
            return [_Image(*image) for image in content]
        except TypeError:
            pass  # nothing is kept, or of no use
        images = self._headers(path, state)
        kept.write("tars", place, state, images)
        return images

    def _headers(self, path, state) -> list[_Image]:
        images: list[tuple[str, int, int]] = []
        labels: dict[str, str] = {}
        opener = open if self._system is None else self._system.open
        try:
            with opener(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    name = member.name.removeprefix("./")
                    if not member.isreg() or member.issparse() or not name:
                        continue
                    if member.offset_data + member.size > state["size"]:
                        raise tarfile.ReadError(f"{name} goes beyond its end")
                    if files.is_image(name):
                        images.append((name, member.offset_data, member.size))
                    elif name.lower().endswith(_LABEL) and member.size <= _LONGEST_LABEL:
                        content = tar.extractfile(member).read()
                        label = content.decode("utf-8-sig", "replace").strip()
                        if labels.setdefault(_key(name), label) != label:
                            raise tarfile.ReadError(f"the key {_key(name)!r} has two labels")
                # What the library cannot read it takes for the end, and more may lie behind it.
                file.seek(tar.offset)
                rest = file.read(_PADDING)
                if not rest or rest.strip(b"\0") or len(rest) == _PADDING:
                    raise tarfile.ReadError(f"byte {tar.offset} is neither a member nor its end")
        except OSError as error:
            raise UsageError(f"shard {path!r} cannot be read: {_reason(error)}") from None
        except (tarfile.TarError, ValueError, EOFError) as error:
            raise UsageError(
                f"shard {path!r} is no whole, uncompressed tar file: {error}; copy or pack it again"
            ) from None
        return [_Image(*image, labels.get(_key(image[0]))) for image in images]


def _reason(error: OSError) -> str:
    return error.strerror or f"{type(error).__name__}: {error}"


def _read(path: str, size: int, start: int) -> bytes:
    # Opened anew: of many shards not all can stay open, and this costs some microseconds.
    with open(path, "rb", buffering=0) as file:
        return os.pread(file.fileno(), size, start)


def _key(name: str) -> str:
    """What members that belong together have in common: all before the name's first dot."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _places(folder: str, shards: Sequence[str]) -> tuple[Any, list[str]]:
    """The file system of a URL, or None, and the path of each shard."""
    if "://" not in folder:
        return None, [os.path.join(os.path.abspath(folder), shard) for shard in shards]
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(folder)
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"data.folder {folder!r} cannot be opened: {error}") from None
    return system, [f"{root.rstrip('/')}/{shard}" for shard in shards]


def _state(system, path) -> dict[str, Any]:
    """What changes when a shard does."""
    if system is None:
        about = os.stat(path)
        return {"size": about.st_size, "time": about.st_mtime_ns}
    about = system.info(path)
    times = (about.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "created"))
    time = next((str(time) for time in times if time is not None), "")
    return {"size": int(about["size"] or 0), "time": time}


def _place(system, path: str) -> str:
    return path if system is None else system.unstrip_protocol(path)

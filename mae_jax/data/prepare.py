"""Images, as they lie, to a prepared set: in parallel, and from where it was interrupted."""

import dataclasses
import functools
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from mae_jax.data import images, pillow, prepared, processes
from mae_jax.data.files import Files
from mae_jax.data.form import Form
from mae_jax.data.opening import open_files
from mae_jax.data.progress import Progress, say
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.pixels import MAX_PIXELS

# Transparent, 16-bit and multi-page images stay as they are.
_SHRINKABLE = {"L": 1, "RGB": 3}


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard to be made: its number, of how many, and the files in it."""

    number: int
    of: int
    start: int
    stop: int

    @property
    def file(self) -> str:
        return f"images-{self.number:05d}-of-{self.of:05d}.array_record"


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes shards of images; sent to whatever process makes one.

    Attributes:
      files: the images.
      out: where shards go.
      shrink: side that an image's shorter one is shrunk to if it is longer, in pixels; or None.
      quality: of the JPEG files that are written where images were shrunk.
    """

    files: Files
    out: str
    shrink: int | None
    quality: int

    def __call__(self, shard: Shard) -> dict[str, Any]:
        """The shard's entry, from before if it was made already; `broken` are those left out."""
        done = Path(self.out) / prepared.PARTS / f"{shard.file}.json"
        if done.is_file():
            return json.loads(done.read_text())
        broken: list[str] = []
        entry = prepared.write_shard(
            Path(self.out) / shard.file, self._sound(range(shard.start, shard.stop), broken)
        )
        entry["broken"] = broken
        making = done.with_suffix(".tmp")
        making.write_text(json.dumps(entry))
        making.replace(done)
        return entry

    def _sound(self, indices: Iterable[int], broken: list[str]) -> Iterator[tuple[str, bytes]]:
        for index in indices:
            name = self.files.name(index)
            try:
                data = self.files.read(index)
                check(data, name)
                yield name, self._shrunk(data, name)
            except BrokenRecord as error:
                broken.append(str(error))

    def _shrunk(self, data: bytes, name: str) -> bytes:
        if self.shrink is None or images.arrays.is_array(data):
            return data
        with pillow.opened(data, name) as image:
            channels, (width, height) = _SHRINKABLE.get(image.mode), image.size
            animated = getattr(image, "n_frames", 1) > 1
        if channels is None or animated or min(width, height) <= self.shrink:
            return data
        scale = self.shrink / min(width, height)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        opened = images.open_image(data, Form(channels), name)
        (pixels,) = opened.views([(0, 0, width, height)], size)
        if image.format == "JPEG":
            space, subsampling = ("GRAY", "Gray") if channels == 1 else ("RGB", "420")
            return simplejpeg.encode_jpeg(pixels, self.quality, space, subsampling, fastdct=False)
        buffer = io.BytesIO()
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(buffer, "PNG")
        return buffer.getvalue()


def check(data: bytes, name: str) -> None:
    """Decodes the whole of an image, whatever its kind.

    Raises:
      BrokenRecord: it cannot be.
    """
    if images.arrays.is_array(data):
        images.arrays.check(data, MAX_PIXELS, name)
    else:
        # Only as float every kind of image can be had; JPEG files are had as uint8 faster.
        floats = not images.is_jpeg(data)
        images.decode(data, Form(3, floats, nodata="nan" if floats else None), name)


def prepare(
    folder: str,
    out: str,
    *,
    shrink: int | None = None,
    quality: int = 95,
    shard_megabytes: int = 64,
    workers: int | None = None,
    run: Callable[[Maker, Sequence[Shard]], Iterator[dict[str, Any]]] | None = None,
) -> dict[str, Any]:
    """Makes a set of a folder; the same call again goes on where one was interrupted.

    Args:
      folder: where they lie, as `opening.open_files` takes it.
      out: the set's folder, new or of the same call.
      shrink, quality: see `Maker`.
      shard_megabytes: of images in each shard, before shrinking.
      workers: processes; one per core by default.
      run: makes all shards, in any order, instead of processes of this machine.

    Returns:
      Where the set lies, its records and classes, its fingerprint, and which images are broken,
      and so left out.

    Raises:
      UsageError: folder or `out` cannot be used.
      BrokenRecord: not a single image can be read.
    """
    for name, value in (("shrink", shrink), ("shard_mb", shard_megabytes), ("workers", workers)):
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value} must be at least 1")
    files = open_files(folder)
    if isinstance(files, prepared.PreparedFiles):
        raise UsageError(f"{folder!r} is a prepared set already; give the folder it was made of")
    if not len(files):
        raise UsageError(f"{folder!r} has no images to prepare")
    root = Path(out).expanduser().absolute()
    if Path(folder).expanduser().absolute() in (root, *root.parents):
        raise UsageError(f"--out {out!r} lies in the folder of images; give another")
    shards = _plan(files, shard_megabytes)
    about = {
        "of": files.fingerprint(np.arange(len(files))) | files.said.fingerprint(),
        "shrink": shrink,
        "quality": quality if shrink else None,
        "shard_megabytes": shard_megabytes,
    }
    if prepared.is_prepared(root):
        _check_same(prepared.read_about(root), about, out)
        say(f"{out} is complete already")
    else:
        _claim(root, about, out)
        maker = Maker(files, str(root), shrink, quality)
        run = run or functools.partial(_on_this_machine, workers=workers)
        progress, entries = Progress(len(files)), []
        for entry in run(maker, shards):
            entries.append(entry)
            progress.did(entry["records"] + len(entry["broken"]))
        _finish(root, entries, about, files)
    return _summary(root, out)


def _plan(files: Files, shard_megabytes: int) -> list[Shard]:
    ends, held = [], 0
    for index in range(len(files)):
        held += files.size(index)
        if held >= shard_megabytes * 2**20:
            ends.append(index + 1)
            held = 0
    if not ends or ends[-1] != len(files):
        ends.append(len(files))
    starts = [0, *ends[:-1]]
    return [
        Shard(n, len(ends), start, stop)
        for n, (start, stop) in enumerate(zip(starts, ends, strict=True))
    ]


def _on_this_machine(maker, shards, workers):
    count = min(workers or processes.cores(), len(shards))
    if count == 1:
        yield from map(maker, shards)
        return
    with processes.Pool(maker, count) as pool:
        yield from pool.as_done("__call__", shards)


def _claim(root, about, out):
    """Makes the set's folder, or checks that what was begun there is the same."""
    begun = root / prepared.PARTS / "about.json"
    try:
        if begun.is_file():
            _check_same(json.loads(begun.read_text()), about, out)
            say(f"going on with what was begun in {out}")
            return
        if root.is_dir() and any(root.iterdir()):
            raise UsageError(f"--out {out!r} holds other files; give an empty or a new folder")
        begun.parent.mkdir(parents=True, exist_ok=True)
        making = begun.with_suffix(".tmp")
        making.write_text(json.dumps(about))
        making.replace(begun)
    except OSError as error:
        raise UsageError(f"--out {out!r} cannot be written: {error.strerror}") from None


def _check_same(before, about, out):
    changed = [
        f"{name}: {before.get(name)} -> {value}"
        for name, value in about.items()
        if before.get(name) != value
    ]
    if changed:
        raise UsageError(
            f"--out {out!r} was prepared otherwise; give another, or delete it. Different are: "
            + "; ".join(changed)
        )


def _finish(root, entries, about, files):
    entries = sorted(entries, key=lambda entry: entry["file"])
    broken = [line for entry in entries for line in entry.pop("broken")]
    if not any(entry["records"] for entry in entries):
        raise BrokenRecord(f"none of the {len(broken)} images can be read; first {broken[0]}")
    for line in broken:
        say(f"broken, left out: {line}")
    said = None
    if files.said.fingerprint():
        number = {files.name(index): index for index in range(len(files))}
        said = files.said.of([number[name] for entry in entries for name in entry["names"]])
    prepared.write_index(root, entries, about | {"broken": broken}, said)
    shutil.rmtree(root / prepared.PARTS)


def _summary(root, out):
    about = prepared.read_about(root)
    return {
        "out": out,
        "records": about["records"],
        "shards": len(about["shards"]),
        "bytes": sum(shard["bytes"] for shard in about["shards"]),
        "broken": len(about["broken"]),
        "fingerprint": about["sha256"],
    }

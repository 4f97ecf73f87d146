"""Features in shards: a folder of files, none of which is larger than memory."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from mae_jax import beats, hosts
from mae_jax.data import sources
from mae_jax.data.progress import say
from mae_jax.data.subset import Subset
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.inference import embed as embedder
from mae_jax.inference import embedded
from mae_jax.inference.views import none_is_sound
from mae_jax.weights import whitened
from mae_jax.weights.load import PretrainedEncoder

INDEX = "index.json"


def embed(
    encoder: PretrainedEncoder, source: sources.Source, out: str | Path, *, shard: int, **options
) -> dict[str, Any]:
    """Writes the features of every record, in order, `shard` records to a file.

    Each file is whole by itself, as `embed.embed` makes it, and is made and resumed as there.
    `OUT/index.json` is written last: where it is, all of them are. Several processes, which must
    see the same folder, take turns with the files: each makes its own, on its own devices.

    Args:
      out: a folder, which gets `00000.npz`, `00001.npz` and so on.
      shard: records in a file, all but the last.
      options: as of `embed.embed`; `broken_share` is of every shard's records.

    Returns:
      Where they lie, how many shards of how many images, and of how many features.

    Raises:
      As `embed.embed`.
      UsageError: `shard` is not positive, or `out` is a file, or holds other shards; or processes
        were started differently.
    """
    folder = Path(out).expanduser().absolute()
    if shard < 1:
        raise UsageError(f"--shard={shard} must be at least 1 image")
    if folder.suffix in embedded.SUFFIXES or folder.is_file():
        raise UsageError(f"--out {str(out)!r} must be a folder where --shard is given")
    starts = range(0, len(source), shard)
    data = {"shard": shard, "images": len(source), "of": source.fingerprint()}
    data = json.loads(json.dumps(data))
    if hosts.several():
        hosts.check_same(data | _asked(encoder, out=str(folder), **options))
    before = _said(folder) if (folder / INDEX).is_file() else data
    if before.get("shard") != shard:
        raise UsageError(
            f"--out {str(out)!r} is there already, in shards of {before.get('shard')} images; give "
            f"--shard={before.get('shard')}, or another --out"
        )
    hosts.barrier("the index was read")
    if {name: before.get(name) for name in data} != data and hosts.is_first():
        (folder / INDEX).unlink()
    names, made, broken = [f"{at:05d}.npz" for at in range(len(starts))], {}, 0
    with hosts.together():
        for number in range(jax.process_index(), len(names), jax.process_count()):
            beats.unlimited(f"shard {number + 1} of {len(names)}")
            start = starts[number]
            some = Subset(source, range(start, min(start + shard, len(source))))
            made = embedder.embed(encoder, some, folder / names[number], part=True, **options)
            broken += made.get("broken", 0)
            if made["images_per_second"] is not None:
                say(f"{number + 1} of {len(names)} shards")
    broken = sum(map(int, hosts.exchange(str(broken))))
    if broken == len(source):
        raise BrokenRecord(none_is_sound(source))
    if hosts.is_first():
        for path in folder.glob("*.npz"):  # of more images, before
            if re.fullmatch(r"\d{5,}\.npz", path.name) and path.name not in names:
                path.unlink()
        embedder.replace(folder / INDEX, json.dumps(data | {"shards": names}, indent=1).encode())
    hosts.barrier("all shards are there")
    summary = {"out": str(folder), "shards": len(names), "images": len(source)}
    summary |= {"dimensions": made.get("dimensions")} | ({"broken": broken} if broken else {})
    return summary


def _asked(encoder, whitening=None, **options) -> dict[str, str]:
    """What the processes that make shards together must agree on."""
    said = {name: repr(value) for name, value in options.items()}
    said["SOURCE"] = whitened.digest_of(encoder.weights.tensors)
    return said | {"whitening": "" if whitening is None else whitening.digest}


def files(folder: str | Path) -> list[Path]:
    """The files of finished shards, in order.

    Raises:
      UsageError: the folder holds none, or they are not finished.
    """
    folder = Path(folder)
    if not (folder / INDEX).is_file():
        raise UsageError(f"{str(folder)!r} holds no {INDEX}, as finished shards do")
    return [folder / name for name in _said(folder).get("shards", ())]


def read(folder: str | Path) -> Iterator[embedded.Embedded]:
    """The rows of finished shards, one file at a time; raises as `files` and `embedded.read`."""
    for path in files(folder):
        yield embedded.read(path)


def _said(folder):
    try:
        said = json.loads((folder / INDEX).read_text())
        names = said.get("shards", ())
        if all(isinstance(name, str) and re.fullmatch(r"\d{5,}\.npz", name) for name in names):
            return said
    except (AttributeError, TypeError, ValueError):
        pass
    raise UsageError(f"{str(folder / INDEX)!r} is damaged; delete it, and embed again")

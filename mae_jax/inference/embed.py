"""Features of many images to a file, with names and labels; an interrupted run goes on."""

import dataclasses
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data import sources
from mae_jax.data.progress import Progress, say
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.inference import embedded as files
from mae_jax.inference.altered import alter
from mae_jax.inference.views import BROKEN_SHARE, digest, none_is_sound, views
from mae_jax.pixels import Pixels
from mae_jax.weights import whitened
from mae_jax.weights.load import PretrainedEncoder

_TOLD = ("data", "source")  # what the same features of other images, or of a copy, have other
DTYPES = ("float32", "float16")
_CHUNK = 256  # images that are lost, at most, when the process is killed


def embed(
    encoder: PretrainedEncoder,
    source: sources.Source,
    out: str | Path,
    *,
    output: str = "mean",
    layers: Sequence[int] | None = None,
    dtype: str = "float32",
    whitening: whitened.Fitted | None = None,
    pixels: Pixels | None = None,
    broken_share: float = BROKEN_SHARE,
    part: bool = False,
    altered: str | None = None,
) -> dict[str, Any]:
    """Writes the features of every record, in order.

    What is done lies in `OUT.parts` until all of it is; the same call again goes on there, and
    the file it makes is the same to the last byte. Where OUT is of the same weights and of other
    images, those of its records whose bytes are the same are kept, and the others computed.

    Args:
      out: an `.npz` with `features` (records, D) float32, `names`, `labels` (int32, -1 where there
        is none), `classes`, `digests` of the records' bytes, `broken` (bool), whose features are
        NaN, and `identity`, JSON on what they were made of; or a `.parquet` with a row per record.
      output: as in `PretrainedEncoder`; "patches" goes into an npz alone.
      layers: numbers of blocks, from 1, whose outputs are wanted: `features_6` and so on instead
        of `features`, in an npz alone.
      dtype: "float32", or "float16" in an npz; features are computed in float32 either way.
      whitening: what features go through, fitted on training images.
      pixels: what the encoder is given; by default what its weights were.
      broken_share: of the records that may be broken, rounded up; they are named.
      part: whether these are a part of more images, so that all of them may be broken.
      altered: features of every image altered so, as of `inference.altered`.

    Returns:
      Where it lies, how many images of how many features, how many are broken, and images per
      second of this call.

    Raises:
      UsageError: `out` cannot be written, is of another kind, or was made with something else; a
        `.parquet` is asked for without pyarrow; there is no such output or layer; features are too
        large for float16; or the whitening is of other features.
      BrokenRecord: more images cannot be read than `broken_share`, or none can.
    """
    path = _checked(out, output, layers, dtype)
    encoder.check_output(output)
    pixels = encoder.weights.pixels if pixels is None else pixels
    weights = whitened.digest_of(encoder.weights.tensors)
    # What nobody asked for is not said, so that files of before are known again.
    asked = {} if dtype == "float32" else {"dtype": dtype}
    if layers is not None:
        layers = encoder.check_layers(layers)
        asked |= {"layers": layers}
    if whitening is not None:
        whitening.check(weights, output, layers)
        asked |= {"whitening": whitening.digest}
    if altered is not None:
        asked |= {"altered": altered}
    made_by = _plain({"weights": weights, "output": output} | asked | dataclasses.asdict(pixels))
    making = _Features(encoder, output, layers, dtype, whitening)
    identity = made_by | {"data": _plain(source.fingerprint())}
    about = identity | {"source": encoder.weights.origin.get("source")}
    parts, kept = path.with_name(path.name + ".parts"), {}
    if path.exists():
        before = files.identity(path)
        if before is None or {k: v for k, v in before.items() if k not in _TOLD} != made_by:
            raise UsageError(f"--out {str(out)!r} is there already, of something else")
        if before.get("data") == identity["data"]:
            return _summary(path, files.read(path), None)
        kept = _kept(files.read(path), source)
        say(f"{out}: {len(kept)} of {len(source)} images are in it already")
    _claim(parts, identity, out)
    todo = [index for index in range(len(source)) if index not in kept]
    rate = _make(making, source, pixels, todo, parts, broken_share, altered)
    made = _joined(source, kept, todo, parts, layers or ())
    if made.broken.all() and not part:
        shutil.rmtree(parts)
        raise BrokenRecord(none_is_sound(source))
    fresh = path.with_name(f".{path.name}")
    files.write(fresh, path.suffix, about, made)
    os.replace(fresh, path)
    shutil.rmtree(parts)
    return _summary(path, made, rate)


@dataclasses.dataclass(frozen=True)
class _Features:
    """Images to what is written of them."""

    encoder: PretrainedEncoder
    output: str
    layers: tuple[int, ...] | None
    dtype: str
    whitening: whitened.Fitted | None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        features = self.encoder(images, self.output, self.layers)
        if self.whitening is not None:
            features = self.whitening(features, self.layers)
        largest, end = np.abs(features).max(initial=0), float(np.finfo(self.dtype).max)
        if largest > end:
            raise UsageError(
                f"--dtype={self.dtype} ends at {end:.0f}, and features go up to {largest:.4g}; "
                "leave it out"
            )
        return features.astype(self.dtype)


def _checked(out, output, layers, dtype) -> Path:
    path = Path(out).expanduser().absolute()
    if path.suffix not in files.SUFFIXES:
        raise UsageError(f"--out {str(out)!r} must end in one of {', '.join(files.SUFFIXES)}")
    if dtype not in DTYPES:
        raise UsageError(f"--dtype={dtype} is unknown; known are {', '.join(DTYPES)}")
    if path.suffix == ".parquet":
        two = {"--output=patches has two axes per image": output == "patches"}
        two |= {"--layers makes several arrays": layers is not None}
        two |= {f"--dtype={dtype} is not read everywhere": dtype != "float32"}
        for reason, holds in two.items():
            if holds:
                raise UsageError(f"{reason}; give an --out that ends in .npz")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError(
            f"--out {str(out)!r} needs pyarrow; pip install 'mae_jax[parquet]', or give an --out "
            "that ends in .npz"
        )
    return path


def _plain(value):
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def _claim(parts, identity, out):
    """Makes the folder of parts, or checks that the one there is of the same features."""
    about = parts / "identity.json"
    try:
        parts.mkdir(parents=True, exist_ok=True)
        if about.is_file():
            if _said(about) != identity:
                raise UsageError(
                    f"{str(parts)!r} was begun on something else; delete it, or give another --out"
                )
            return
        replace(about, json.dumps(identity).encode())
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} cannot be written: {error.strerror}") from None


def _said(about: Path):
    try:
        return json.loads(about.read_text())
    except ValueError:
        return None


def _parts(parts: Path, todo: Sequence[int]) -> list[tuple[Path, Sequence[int]]]:
    """The files of what is to be done, and the records in each."""
    return [
        (parts / f"{start:010d}.npz", todo[start : start + _CHUNK])
        for start in range(0, len(todo), _CHUNK)
    ]


def _make(features_of, source, pixels, todo, parts, broken_share, altered) -> float | None:
    """Makes the parts that lack; images per second, or None where nothing did."""
    lacking = [(path, some) for path, some in _parts(parts, todo) if not path.is_file()]
    indices = [index for _, some in lacking for index in some]
    progress = Progress(len(indices), every=1.0)
    began = time.perf_counter()
    made = views(source, pixels, indices, _CHUNK, broken_share=broken_share)
    for (path, some), images in zip(lacking, made, strict=True):
        features = features_of(alter(images.images, altered))
        features[~images.sound] = np.nan
        making = path.with_suffix(".tmp")
        with making.open("wb") as file:
            np.savez(file, features=features, digests=images.digests, broken=~images.sound)
        os.replace(making, path)
        progress.did(len(some))
    return len(indices) / (time.perf_counter() - began) if indices else None


def _kept(old: files.Embedded, source) -> dict[int, tuple[np.ndarray, int]]:
    """Features and digest of the records that a file has already, by their place in the source."""
    place = {name: i for i, name in enumerate(old.names) if not old.broken[i]}
    kept, progress = {}, Progress(len(source))
    for index in range(len(source)):
        row = place.get(source.name(index))
        if row is not None and _digest_of(source, index) == old.digests[row]:
            kept[index] = old.features[row], int(old.digests[row])
        progress.did(1)
    return kept


def _digest_of(source, index):
    try:
        return digest(source[index].data)
    except BrokenRecord:
        return None


def _joined(source, kept, todo, parts, layers) -> files.Embedded:
    found = [np.load(path) for path, _ in _parts(parts, todo)]
    like = next(iter(kept.values()))[0] if kept else found[0]["features"][0]
    made = files.Embedded(
        features=np.empty((len(source), *like.shape), like.dtype),
        names=[source.name(index) for index in range(len(source))],
        labels=source.labels(),
        classes=list(source.classes),
        digests=np.zeros(len(source), np.uint64),
        broken=np.zeros(len(source), bool),
        layers=tuple(layers),
    )
    for index, row in kept.items():
        made.features[index], made.digests[index] = row
    for (_, some), part in zip(_parts(parts, todo), found, strict=True):
        made.features[some], made.digests[some] = part["features"], part["digests"]
        made.broken[some] = part["broken"]
    return made


def _summary(path, made, rate):
    summary = {"out": str(path), "images": len(made.names), "dimensions": made.features.shape[-1]}
    if made.broken.any():
        summary["broken"] = int(made.broken.sum())
    return summary | {"images_per_second": rate and round(rate, 1)}


def replace(path: Path, data: bytes) -> None:
    """Puts a small file in its place at once."""
    making = path.with_suffix(".tmp")
    making.write_bytes(data)
    os.replace(making, path)

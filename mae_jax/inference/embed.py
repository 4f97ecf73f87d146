"""Features of many images to a file, with names and labels; an interrupted run goes on."""

import datetime
import hashlib
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data import loader, sources
from mae_jax.errors import UsageError
from mae_jax.train import metrics
from mae_jax.weights.load import PretrainedEncoder

SUFFIXES = (".npz", ".parquet")
_CHUNK = 256  # images that are lost, at most, when the process is killed


def embed(
    encoder: PretrainedEncoder,
    source: sources.Source,
    out: str | Path,
    *,
    output: str = "mean",
    eval_crop: float = 0.875,
    floats: bool = False,
) -> dict[str, Any]:
    """Writes the features of every record, in order.

    What is done lies in `OUT.parts` until all of it is; the same call again goes on there, and
    the file it makes is the same to the last byte.

    Args:
      out: an `.npz` with `features` (records, D) float32, `names`, `labels` (int32, -1 where there
        is none) and `classes`; or a `.parquet` with a row per record.
      output: as in `PretrainedEncoder`; "patches" goes into an npz alone.
      eval_crop: the centre crop, as a share of the shorter side.
      floats: keep 16-bit and float values, in what the encoder's mean and deviation are in, as
        `data.pixels=float32` does; otherwise images become uint8.

    Returns:
      Where it lies, how many images of how many features, and images per second of this call.

    Raises:
      UsageError: `out` cannot be written, is of another kind, or was made of something else; or
        a `.parquet` is asked for without pyarrow.
      BrokenRecord: an image cannot be read.
    """
    path = Path(out).absolute()
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--out {str(out)!r} must end in one of {', '.join(SUFFIXES)}")
    encoder.check_output(output)
    if output == "patches" and path.suffix == ".parquet":
        raise UsageError("--output=patches has two axes per image; give an --out that ends in .npz")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError(
            f"--out {str(out)!r} needs pyarrow; pip install 'mae_jax[parquet]', or give an --out "
            "that ends in .npz"
        )
    d = encoder.weights.dimensions
    picture = loader.Picture(
        d.image_size, d.channels, crop_scale=(1, 1), crop_ratio=(1, 1), flip=False,
        eval_crop=eval_crop, floats=floats,
    )  # fmt: skip
    identity = {
        "weights": _digest(encoder.weights.tensors),
        "data": source.fingerprint(),
        "output": output,
        "image_size": d.image_size,
        "channels": d.channels,
        "mean": encoder.weights.mean,
        "std": encoder.weights.std,
        "eval_crop": eval_crop,
    } | ({"pixels": "float32"} if floats else {})
    identity = json.loads(json.dumps(identity))
    parts = path.with_name(path.name + ".parts")
    if path.exists():
        if _identity(path) != identity:
            raise UsageError(f"--out {str(out)!r} is there already, of something else")
        return _summary(path, len(source), None)
    _claim(parts, identity, out)
    rate = _make(encoder, source, picture, parts, output)
    features = [np.load(file) for file in _parts(parts, len(source))]
    names = [source.name(i) for i in range(len(source))]
    content = (np.concatenate(features), names, source.labels(), list(source.classes))
    making = path.with_name(f".{path.name}")
    (_write_npz if path.suffix == ".npz" else _write_parquet)(making, identity, *content)
    os.replace(making, path)
    shutil.rmtree(parts)
    return _summary(path, len(source), rate) | {"dimensions": features[0].shape[-1]}


def _digest(tensors):
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


def _claim(parts, identity, out):
    """Makes the folder of parts, or checks that the one there is of the same features."""
    about = parts / "identity.json"
    try:
        parts.mkdir(parents=True, exist_ok=True)
        if about.is_file():
            if json.loads(about.read_text()) != identity:
                raise UsageError(
                    f"{str(parts)!r} was begun on something else; delete it, or give another --out"
                )
            return
        _replace(about, json.dumps(identity).encode())
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} cannot be written: {error.strerror}") from None


def _parts(parts: Path, records: int) -> list[Path]:
    return [parts / f"{start:010d}.npy" for start in range(0, records, _CHUNK)]


def _make(encoder, source, picture, parts, output) -> float | None:
    """Makes the parts that lack; images per second, or None where nothing did."""
    todo = [
        (index * _CHUNK, path)
        for index, path in enumerate(_parts(parts, len(source)))
        if not path.is_file()
    ]
    done, began, said = 0, time.perf_counter(), 0.0
    for (start, path), images in zip(todo, _decoded(source, picture, todo), strict=True):
        making = path.with_suffix(".tmp")
        with making.open("wb") as file:
            np.save(file, encoder(images, output, any_range=picture.floats))
        os.replace(making, path)
        done += len(images)
        now = time.perf_counter()
        if now - said > 1 or path == todo[-1][1]:
            rate, at = done / (now - began), start + len(images)
            left = datetime.timedelta(seconds=round((len(source) - at) / rate))
            metrics.say(f"{at}/{len(source)} images  {rate:.0f} images/s  eta {left}")
            said = now
    return done / (time.perf_counter() - began) if todo else None


def _decoded(source, picture, todo) -> Iterator[np.ndarray]:
    """The images of every part, (B, H, W, C); the next are decoded while one is used."""
    decode = loader.Decoder(source, picture, cache=False)

    def one(index):
        return picture.plain(decode(index)[0])

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        waiting = []
        for start, _ in todo:
            stop = min(start + _CHUNK, len(source))
            waiting.append([pool.submit(one, index) for index in range(start, stop)])
            if len(waiting) == 2:
                yield np.stack([image.result() for image in waiting.pop(0)])
        for images in waiting:
            yield np.stack([image.result() for image in images])


def _write_npz(path, identity, features, names, labels, classes):
    with path.open("wb") as file:
        np.savez(
            file,
            features=features,
            names=np.array(names, str),
            labels=labels,
            classes=np.array(classes, str),
            identity=np.array(json.dumps(identity)),
        )


def _write_parquet(path, identity, features, names, labels, classes):
    import pyarrow as pa
    from pyarrow import parquet

    values = pa.array(features.reshape(-1))
    columns = {
        "name": pa.array(names),
        "label": pa.array(labels),
        "class": pa.array([classes[i] if i >= 0 else None for i in labels], pa.string()),
        "features": pa.FixedSizeListArray.from_arrays(values, features.shape[-1]),
    }
    about = {"mae_jax": json.dumps(identity)}
    parquet.write_table(pa.table(columns).replace_schema_metadata(about), path)


def _identity(path: Path) -> Any:
    """What a finished file was made of; None where it does not say."""
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:
                return json.loads(str(file["identity"]))
        from pyarrow import parquet

        return json.loads((parquet.read_schema(path).metadata or {})[b"mae_jax"])
    except (OSError, ValueError, KeyError):
        return None


def _replace(path: Path, data: bytes) -> None:
    making = path.with_suffix(".tmp")
    making.write_bytes(data)
    os.replace(making, path)


def _summary(path, images, rate):
    return {"out": str(path), "images": images, "images_per_second": rate and round(rate, 1)}

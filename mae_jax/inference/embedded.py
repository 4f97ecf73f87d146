"""Files of features: `.npz` and `.parquet`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data import packed
from mae_jax.errors import UsageError
from mae_jax.weights import whitened

SUFFIXES = (".npz", ".parquet")


@dataclasses.dataclass(frozen=True)
class Embedded:
    """What a file holds, a row per record.

    Attributes:
      features: (records, D), or (records, N, D), float32 or float16; of several layers (records,
        layers, …). NaN where a record is broken.
      names: of the records.
      labels: (records,) int32, -1 where there is none.
      classes: the labels' names.
      digests: (records,) uint64, of the records' bytes.
      broken: (records,) bool.
      layers: numbers of the blocks, where they were asked for.
    """

    features: np.ndarray
    names: list[str]
    labels: np.ndarray
    classes: list[str]
    digests: np.ndarray
    broken: np.ndarray
    layers: tuple[int, ...] = ()

    def by_name(self) -> dict[str, np.ndarray]:
        """What an npz has of features: an array, or one of each layer."""
        if not self.layers:
            return {"features": self.features}
        names = whitened.names_of(self.layers)
        return {name: self.features[:, at] for at, name in enumerate(names)}


def write(path: Path, suffix: str, identity: dict[str, Any], made: Embedded) -> None:
    """Writes the rows, and what they were made of, to `path` as a file of that suffix."""
    (_write_npz if suffix == ".npz" else _write_parquet)(path, json.dumps(identity), made)


def _write_npz(path, identity, made):
    with path.open("wb") as file:
        np.savez(
            file,
            **made.by_name(),
            names=np.array(made.names, str),
            labels=made.labels,
            classes=np.array(made.classes, str),
            digests=made.digests,
            broken=made.broken,
            identity=np.array(identity),
        )


def _write_parquet(path, identity, made):
    import pyarrow as pa
    from pyarrow import parquet

    classes = [made.classes[i] if made.classes and i >= 0 else None for i in made.labels]
    columns = {
        "name": pa.array(made.names),
        "label": pa.array(made.labels),
        "class": pa.array(classes, pa.string()),
        "features": pa.FixedSizeListArray.from_arrays(
            pa.array(made.features.reshape(-1)), made.features.shape[-1]
        ),
        "digest": pa.array(made.digests),
        "broken": pa.array(made.broken),
    }
    about = {"mae_jax": identity, "classes": json.dumps(made.classes)}
    parquet.write_table(pa.table(columns).replace_schema_metadata(about), path)


def identity(path: Path) -> dict[str, Any] | None:
    """What a finished file was made of; None where it does not say."""
    try:
        if path.suffix == ".npz":
            packed.check_npz(path)
            with np.load(path) as file:
                said = json.loads(str(file["identity"]))
        else:
            from pyarrow import parquet

            said = json.loads((parquet.read_schema(path).metadata or {})[b"mae_jax"])
    except Exception:  # whatever is there may be anything
        return None
    return said if isinstance(said, dict) else None


def read(path: Path) -> Embedded:
    """The rows of a finished file that says what it was made of.

    Raises:
      UsageError: it is damaged.
    """
    try:
        made = _read(path)
        rows = {len(made.features), *map(len, (made.names, made.labels, made.digests, made.broken))}
        if len(rows) > 1 or made.features.ndim - bool(made.layers) not in (2, 3):
            raise ValueError("its columns do not belong together")
    except Exception as error:  # damaged bytes may end a decoder anywhere
        raise UsageError(f"{str(path)!r} is damaged: {error}") from None
    return made


def _read(path):
    if path.suffix == ".npz":
        packed.check_npz(path)
        with np.load(path) as file:
            names = [name for name in file.files if name.startswith(whitened.LAYER)]
            layers = tuple(int(name.removeprefix(whitened.LAYER)) for name in names)
            return Embedded(
                np.stack([file[n] for n in names], 1) if names else file["features"],
                file["names"].tolist(),
                file["labels"],
                file["classes"].tolist(),
                file["digests"],
                file["broken"],
                layers,
            )
    from pyarrow import parquet

    table = parquet.read_table(path)
    features = table["features"].combine_chunks()
    width = features.type.list_size
    return Embedded(
        features.values.to_numpy(zero_copy_only=False).reshape(-1, width),
        table["name"].to_pylist(),
        table["label"].to_numpy().astype(np.int32),
        json.loads(table.schema.metadata[b"classes"]),
        table["digest"].to_numpy(),
        table["broken"].to_numpy(),
    )

"""Encoder or classifier as StableHLO, which jax runs, on CPUs, NVIDIA's GPUs and TPUs.

jax reads and writes it by the package flatbuffers, which it does not ask for.

https://docs.jax.dev/en/latest/export/export.html says for how long later versions of jax read it.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from mae_jax.errors import UsageError
from mae_jax.weights import graph
from mae_jax.weights.described import Weights

PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = 1e-6  # as a share of the largest value
_LIMIT = 2**31 - 2**20  # bytes; the file's format, flatbuffers, ends there


def write(folder: Path, weights: Weights, about: dict[str, Any]) -> list[Path]:
    """Writes `model.stablehlo`, a `graph.Graph` whose outputs are in a dict, and `model.json`.

    Raises:
      UsageError: the weights are too many for one file, or flatbuffers is not installed.
      RuntimeError: what was written computes something else.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UsageError("--format=stablehlo needs flatbuffers; pip install 'mae_jax[stablehlo]'")
    size = sum(tensor.nbytes for tensor in weights.tensors.values())
    if size > _LIMIT:
        raise UsageError(
            f"--format=stablehlo holds 2 GB, and these weights have {size / 2**30:.1f}; take "
            "onnx, or safetensors and mae_jax.load_encoder"
        )
    made = graph.of(weights)

    @jax.jit
    def named(images):
        return dict(zip(made.names, made.function(images), strict=True))

    (batch,) = export.symbolic_shape("batch")
    given = jax.ShapeDtypeStruct((batch, *made.shape), jnp.float32)
    path, said = folder / "model.stablehlo", folder / "model.json"
    path.write_bytes(export.export(named, platforms=PLATFORMS)(given).serialize())
    said.write_text(json.dumps(graph.about(weights, about), indent=1) + "\n")
    found, rng = export.deserialize(bytearray(path.read_bytes())), np.random.default_rng(0)
    for number in (1, 2):
        images = rng.random((number, *made.shape), np.float32)
        theirs, ours = found.call(images), named(images)
        for name in made.names:
            error = jnp.abs(theirs[name] - ours[name]).max()
            if not error <= TOLERANCE * jnp.abs(ours[name]).max():
                raise RuntimeError(f"{path.name} computes another {name}: by {float(error):.1e}")
    return [path, said]

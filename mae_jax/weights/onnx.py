"""Encoder or classifier as an ONNX graph, by jax2onnx, checked in onnxruntime as it is written."""

import json
import logging
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mae_jax.errors import UsageError
from mae_jax.weights import graph
from mae_jax.weights.described import Weights

TOLERANCE = 1e-4
_LIMIT = 1_500_000_000  # bytes; protobuf holds 2 GB, and larger models keep tensors beside


def write(folder: Path, weights: Weights, about: dict[str, Any]) -> list[Path]:
    """Writes `model.onnx`: from `images` to the outputs of a `graph.Graph`.

    Raises:
      UsageError: jax2onnx, onnx or onnxruntime is not installed.
      RuntimeError: onnxruntime computes something else.
    """
    try:
        import onnx
        import onnxruntime
        from jax2onnx import to_onnx
    except ImportError as error:
        # jax2onnx asks for an older orbax than ours, which it uses for its examples alone.
        raise UsageError(
            f"--format=onnx needs {error.name}; pip install 'mae_jax[onnx]' and then "
            "pip install --no-deps jax2onnx"
        ) from None
    # Of plugins for libraries that are not there, and of shapes it cannot name.
    for name in ("jax2onnx", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    names, function, shape = graph.of(weights)
    made = to_onnx(function, inputs=[("B", *shape)])
    _name(made, ["images", *names])
    noted = json.dumps(graph.about(weights, about))
    onnx.helper.set_model_props(made, {"mae_jax": noted})
    path = folder / "model.onnx"
    large = sum(tensor.nbytes for tensor in weights.tensors.values()) > _LIMIT
    beside = dict(save_as_external_data=True, location="model.onnx.data") if large else {}
    onnx.save_model(made, path, **beside)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for batch in (1, 2):
        images = rng.random((batch, *shape), np.float32)
        found = session.run(names, {"images": images})
        for name, value, ours in zip(names, found, function(jnp.asarray(images)), strict=True):
            error = float(np.abs(value - ours).max())
            if not error <= TOLERANCE:
                raise RuntimeError(f"onnxruntime's {name} is off by {error:.1e}")
    return [path, *sorted(folder.glob("model.onnx.data"))]


def _name(made: Any, wanted: list[str]) -> None:
    """Gives inputs and outputs their names."""
    values = [*made.graph.input, *made.graph.output]
    renamed = {value.name: name for value, name in zip(values, wanted, strict=True)}
    for value in values:
        value.name = renamed[value.name]
    for node in made.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]

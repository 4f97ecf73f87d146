"""The encoder as an ONNX graph, through jax2onnx, checked in onnxruntime as it is written."""

import json
import logging
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from mae_jax.errors import UsageError
from mae_jax.weights import model, pretrained
from mae_jax.weights.described import Weights

TOLERANCE = 1e-4
_LIMIT = 1_500_000_000  # bytes; protobuf holds 2 GB, and larger models keep tensors beside
_OUTPUTS = pretrained.OUTPUTS


def write(folder: Path, weights: Weights, about: dict[str, Any]) -> list[Path]:
    """Writes `model.onnx`: images (B, H, W, C) float32, any B, to named features.

    Images are in the units of the pixels' mean and deviation: 0 to 1 for uint8.

    The outputs are `mean` (B, D), `patches` (B, N, D) and, with a class token, `token` (B, D), as
    `PretrainedEncoder` makes them.

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
    d = weights.dimensions
    names = [name for name in _OUTPUTS if name != "token" or weights.class_token]
    holder = model.build(weights)

    def features(images):
        x_BND = holder.encoder(weights.pixels.standardise(images))
        return tuple(pretrained.pooled(holder, x_BND, name) for name in names)

    graph = to_onnx(features, inputs=[("B", *d.image_size, d.channels)])
    _name(graph, ["images", *names])
    onnx.helper.set_model_props(graph, {"mae_jax": json.dumps(about)})
    path = folder / "model.onnx"
    large = sum(tensor.nbytes for tensor in weights.tensors.values()) > _LIMIT
    beside = dict(save_as_external_data=True, location="model.onnx.data") if large else {}
    onnx.save_model(graph, path, **beside)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for batch in (1, 2):
        images = rng.random((batch, *d.image_size, d.channels), np.float32)
        found = session.run(names, {"images": images})
        for name, value, ours in zip(names, found, features(jnp.asarray(images)), strict=True):
            error = float(np.abs(value - ours).max())
            if not error <= TOLERANCE:
                raise RuntimeError(f"onnxruntime's {name} is off by {error:.1e}")
    return [path, *sorted(folder.glob("model.onnx.data"))]


def _name(graph: Any, wanted: list[str]) -> None:
    """Gives inputs and outputs their names."""
    values = [*graph.graph.input, *graph.graph.output]
    renamed = {value.name: name for value, name in zip(values, wanted, strict=True)}
    for value in values:
        value.name = renamed[value.name]
    for node in graph.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]

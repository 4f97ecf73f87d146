"""Weights as a model of ours, and a model of ours as weights."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mae_jax.errors import UsageError
from mae_jax.models import encoder as encoder_lib
from mae_jax.models.fast import ways
from mae_jax.models.keys import Keys
from mae_jax.models.layers import LayerNorm
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.models.vit import VisionTransformer
from mae_jax.weights import keymap
from mae_jax.weights.described import Weights

Model = MaskedAutoencoder | VisionTransformer | encoder_lib.Encoder


class _Holder(nnx.Module):
    """An encoder under the name it has in a whole model, with `fc_norm` where there is one."""

    def __init__(self, weights: Weights, common, rngs):
        d = weights.dimensions
        self.encoder = encoder_lib.Encoder(
            d,
            class_token=weights.class_tokens,
            registers=weights.registers,
            final_norm=not weights.mean_pool,
            gelu=weights.gelu,
            **common,
            rngs=rngs,
        )
        norm = None
        if weights.mean_pool:
            norm = LayerNorm(d.width, dtype=common["dtype"], rngs=rngs)
        self.fc_norm = nnx.data(norm)


def _abstract(
    weights: Weights, dtype: Any, scan: bool, attention: str | ways.Way = "plain"
) -> nnx.Module:
    encoder = dataclasses.asdict(weights.dimensions)
    decoder = {name: encoder.pop(name) for name in list(encoder) if name.startswith("decoder_")}
    common = dict(dtype=jnp.dtype(dtype), scan=scan, attention=attention)
    arguments = encoder | common | dict(class_token=weights.class_tokens)

    def create():
        rngs = Keys(0)
        if weights.kind == "full":
            pixels = weights.target == "pixels"
            return MaskedAutoencoder(
                **arguments,
                **decoder,
                mask_ratio=weights.mask_ratio,
                sampling=weights.sampling,
                mask_unit=weights.mask_unit,
                loss_on=weights.loss_on,
                decode_ratio=weights.decode_ratio,
                decoder_attention=weights.decoder_attention,
                target=weights.target,
                target_size=None if pixels else len(weights.tensors["decoder_pred.weight"]),
                norm_pix=weights.norm_pix,
                mask_tokens_in_encoder=weights.mask_tokens_in_encoder,
                rngs=rngs,
            )
        if weights.kind == "classifier":
            classes = weights.tensors["head.weight"].shape[0]
            pool, gelu = "mean" if weights.mean_pool else "token", weights.gelu
            return VisionTransformer(**arguments, classes=classes, pool=pool, gelu=gelu, rngs=rngs)
        return _Holder(weights, common, rngs)

    return nnx.eval_shape(create)


def build(
    weights: Weights,
    *,
    dtype: Any = jnp.float32,
    scan: bool = False,
    attention: str | ways.Way = "plain",
) -> nnx.Module:
    """The model: MaskedAutoencoder, VisionTransformer, or something with an `encoder`.

    Arguments as of these.
    """
    graphdef, state = nnx.split(_abstract(weights, dtype, scan, attention))
    ours = keymap.from_published(weights.tensors)
    variables = dict(nnx.to_flat_state(state))
    for path, value in ours.items():
        variables[path].set_value(jnp.asarray(value))
    return nnx.merge(graphdef, nnx.from_flat_state(variables))


def check_shapes(weights: Weights, source: str) -> None:
    """Raises UsageError, naming `source`, unless every tensor has the shape the model gives it."""
    try:
        state = nnx.to_flat_state(nnx.state(_abstract(weights, jnp.float32, False)))
    except ValueError as error:  # a mask ratio or a sampling that no model has
        raise UsageError(f"{source}: {error}") from None
    shapes = {
        keymap.published_name(path): keymap.shape_there(path, value.shape) for path, value in state
    }
    wrong = [
        f"{name} is {weights.tensors[name].shape}, expected {shape}"
        for name, shape in shapes.items()
        if weights.tensors[name].shape != shape
    ]
    if wrong:
        raise UsageError(f"{source} does not fit together: {'; '.join(wrong)}")


def tensors(model: nnx.Module) -> dict[str, np.ndarray]:
    """A model's parameters and tables by published name, in PyTorch's layout."""
    return keymap.to_published(flat(nnx.to_pure_dict(nnx.state(model))))


def flat(tree: dict) -> dict[keymap.Path, np.ndarray]:
    """A tree of dictionaries by path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {tuple(entry.key for entry in path): np.asarray(leaf) for path, leaf in leaves}

"""The encoder that `init_from` names, for a run to start from."""

from typing import Any

from mae_jax.weights import keymap
from mae_jax.weights.described import Weights
from mae_jax.weights.read import read


def _read(config) -> Weights:
    # What the source does not say, the config's model section may.
    return read(
        config.init_from, part="encoder", heads=config.model.heads, image_size=_sides(config)
    )


def _sides(config):
    sides = tuple(config.model.image_size)
    return sides if len(sides) > 1 else sides[0]


def read_encoder(config) -> dict[str, Any]:
    """A tree for `train.state.with_encoder`: the positions resized to the config's images.

    Raises:
      UsageError: as `read`.
    """
    weights = _read(config).resized(_sides(config))
    tree: dict[str | int, Any] = {}
    for path, value in keymap.from_published(weights.tensors).items():
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value
    return {"params": tree, "tables": {}}


def architecture(config) -> dict[str, Any]:
    """The dimensions of the encoder that a config starts from, as a resolved config has them."""
    weights = _read(config)
    d = weights.dimensions
    return {
        "model": {
            "size": "base",
            "patch_size": list(d.patch_size),
            "channels": d.channels,
            "width": d.width,
            "depth": d.depth,
            "heads": d.heads,
            "class_token": weights.class_token,
            "image_size": list(d.image_size),
        }
    }

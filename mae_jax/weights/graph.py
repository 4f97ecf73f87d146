"""What a graph that leaves the project computes, in whatever format it is written."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mae_jax.weights import model, pretrained
from mae_jax.weights.described import Weights


class Graph(NamedTuple):
    """A function of images (B, H, W, C) float32, for any B.

    Images are in the units of the pixels' mean and deviation: 0 to 1 for uint8.

    Attributes:
      names: of what it gives: of an encoder `mean` (B, D), `patches` (B, N, D) and, with a class
        token, `token` (B, D), as `PretrainedEncoder` makes them; of a classifier `logits`
        (B, classes).
      function: gives them in that order, as a tuple.
      shape: of an image.
    """

    names: list[str]
    function: Callable[[jax.Array], tuple[jax.Array, ...]]
    shape: tuple[int, int, int]


def of(weights: Weights) -> Graph:
    """The graph of an encoder or a classifier."""
    d, holder = weights.dimensions, model.build(weights)
    shape = (*d.image_size, d.channels)
    if weights.kind == "classifier":
        return Graph(["logits"], lambda x: (holder(weights.pixels.standardise(x)),), shape)
    names = [n for n in pretrained.OUTPUTS if n != "token" or weights.class_token]

    def features(images):
        x_BND = holder.encoder(weights.pixels.standardise(images)).astype(jnp.float32)
        return tuple(pretrained.pooled(holder, x_BND, name) for name in names)

    return Graph(names, features, shape)


def about(weights: Weights, settings: dict[str, Any]) -> dict[str, Any]:
    """What is noted in a graph's file, or beside it: with the names of its classes."""
    return settings | ({"classes": list(weights.classes)} if weights.classes else {})

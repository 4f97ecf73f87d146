"""Functions of one's own that pre-training uses, looked at before anything depends on them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mae_jax.config import functions
from mae_jax.config.architecture import dimension_arguments
from mae_jax.errors import UsageError
from mae_jax.models import masking, sizes


def sampling(name: str, grid: Sequence[int], key: str = "model.sampling") -> masking.Sampling:
    """The sampling of a name: one of `masking.SAMPLINGS`, or a function of one's own.

    Args:
      grid: that it draws on, which is of units where patches are hidden in such.
      key: to name in errors.

    Raises:
      UsageError: it cannot be had, or does not give every place of the grid a number.
    """
    if name in masking.SAMPLINGS:
        return masking.SAMPLINGS[name]
    if not functions.is_named(name):
        known = ", ".join(masking.SAMPLINGS)
        raise UsageError(f"{key} {name!r} is unknown; known are {known}, and {functions.FORM}")
    sample, count = functions.load(key, name), math.prod(grid)

    def two(random):
        return sample(random, 2, tuple(grid))

    made = _traced(key, name, two, jax.random.key(0))
    if made.shape != (2, count) or not jnp.issubdtype(made.dtype, jnp.number):
        raise UsageError(
            f"{key} {name!r} gives {made.dtype} {made.shape} for 2 images of "
            f"{' x '.join(map(str, grid))} patches; it must give numbers {(2, count)}, the lowest "
            "of those that stay visible"
        )
    return sample


def tokenizer(name: str, config) -> Callable[[jax.Array], jax.Array]:
    """The tokenizer that `model.target` names; see `objectives.Reconstruct`.

    Raises:
      UsageError: it cannot be had, says no vocabulary, or gives something else than codes.
    """
    tokenize = functions.load("model.target", name)
    vocabulary = getattr(tokenize, "vocabulary", None)
    if not isinstance(vocabulary, int) or vocabulary < 2:
        raise UsageError(
            f"model.target {name!r} must say how many codes there are in its attribute "
            f"`vocabulary`, a whole number of at least 2; it is {vocabulary!r}"
        )
    d = sizes.resolve(**dimension_arguments(config))
    images = jax.ShapeDtypeStruct((2, *d.image_size, d.channels), jnp.float32)
    made = _traced("model.target", name, tokenize, images)
    if made.shape != (2, d.patches) or not jnp.issubdtype(made.dtype, jnp.integer):
        raise UsageError(
            f"model.target {name!r} gives {made.dtype} {made.shape} for images "
            f"{images.shape}; it must give integers {(2, d.patches)}, a code for every patch"
        )
    return tokenize


def _traced(key, name, function, *arguments) -> Any:
    """Shape and dtype of what a function makes, in a compiled program."""
    try:
        made = jax.eval_shape(function, *arguments)
    except Exception as error:  # of any kind, as it is anybody's code
        raise UsageError(
            f"{key} {name!r} cannot be compiled: {type(error).__name__}: "
            f"{functions.one_line(error)[:300]}"
        ) from error
    if not isinstance(made, jax.ShapeDtypeStruct):
        raise UsageError(f"{key} {name!r} must give one array; it gives {type(made).__name__}")
    return made

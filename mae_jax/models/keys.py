"""Keys for fresh parameters, where a model is made inside a traced function."""

import jax
import jax.numpy as jnp


class Keys:
    """Gives the keys that `nnx.Rngs` of a seed or a key gives, one after the other.

    It counts in Python. `nnx.Rngs` counts in an array, which takes most of the time of tracing how
    a model is made: four seconds of ViT-L's five.
    """

    def __init__(self, seed: int | jax.Array):
        self._key = jax.random.key(seed) if isinstance(seed, int) else seed
        self._given = 0

    def params(self) -> jax.Array:
        """The next."""
        self._given += 1
        return jax.random.fold_in(self._key, jnp.uint32(self._given - 1))

"""LayerNorm, with a gradient written by hand where it is computed in float32.

What JAX derives goes through the variance, in several terms that XLA's CPU compiler puts into every
place that reads them, the terms of the layers above included. As one formula it is computed once.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

_EPSILON = 1e-6  # ViT's


class LayerNorm(nnx.LayerNorm):
    """LayerNorm over the last axis (Ba et al. 2016), with statistics in float32.

    In one pass where activations are bfloat16, which are coarser than what that costs.

    Args:
      width: of the last axis; `scale` and `bias` are (width,).
      dtype: of the result.
    """

    def __init__(self, width: int, *, dtype: Dtype, rngs: nnx.Rngs):
        one_pass = jnp.dtype(dtype) == jnp.bfloat16
        super().__init__(
            width, epsilon=_EPSILON, use_fast_variance=one_pass, dtype=dtype, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """(…, D) to the same."""
        if self.use_fast_variance:
            return super().__call__(x)
        y = normalise(x.astype(jnp.float32), self.scale[...], self.bias[...])
        return y.astype(self.dtype)


@jax.custom_vjp
def normalise(x: jax.Array, scale_D: jax.Array, bias_D: jax.Array) -> jax.Array:
    """(x - mean) / deviation * scale + bias over the last axis, all float32."""
    return _forward(x, scale_D, bias_D)[0]


def _forward(x, scale_D, bias_D):
    mean = x.mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(x - mean).mean(-1, keepdims=True) + _EPSILON)
    # Or XLA's CPU compiler stores x - mean for both, which takes longer than to compute it again.
    mean, inverse = jax.lax.optimization_barrier((mean, inverse))
    y = (x - mean) * inverse * _along(scale_D, x) + _along(bias_D, x)
    return y, (x, mean, inverse, scale_D)


def _backward(saved, ct):
    x, mean, inverse, scale_D = saved
    normal = (x - mean) * inverse
    ct_normal = ct * _along(scale_D, x)
    # Less what would only move or stretch all of a token, which normalising takes back.
    shift = ct_normal.mean(-1, keepdims=True)
    stretch = (ct_normal * normal).mean(-1, keepdims=True)
    others = tuple(range(x.ndim - 1))
    return (
        (ct_normal - shift - normal * stretch) * inverse,
        (ct * normal).sum(others),
        ct.sum(others),
    )


normalise.defvjp(_forward, _backward)


def _along(values_D, x):
    return values_D.reshape(*[1] * (x.ndim - 1), -1)

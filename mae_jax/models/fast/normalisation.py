"""LayerNorm's formula, with a gradient written by hand.

What JAX derives goes through the variance, in several terms that XLA's CPU compiler puts into every
place that reads them, the terms of the layers above included. As one formula it is computed once.
"""

import functools

import jax
import jax.numpy as jnp

from mae_jax.models.fast.gradients import by_hand


@functools.partial(by_hand, static=(3,))
def normalise(x: jax.Array, scale_D: jax.Array, bias_D: jax.Array, epsilon: float) -> jax.Array:
    """(x - mean) / deviation * scale + bias over the last axis, all float32."""
    return _forward(x, scale_D, bias_D, epsilon)[0]


def _forward(x, scale_D, bias_D, epsilon):
    mean = x.mean(-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.square(x - mean).mean(-1, keepdims=True) + epsilon)
    # Or XLA's CPU compiler stores x - mean for both, which takes longer than to compute it again.
    mean, inverse = jax.lax.optimization_barrier((mean, inverse))
    y = (x - mean) * inverse * _along(scale_D, x) + _along(bias_D, x)
    return y, (x, mean, inverse, scale_D)


def _backward(epsilon, saved, ct):
    del epsilon  # is in what was saved
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

"""Attention for CPUs: few and large products, and few passes over the weights.

Queries, keys and values come out of one product. Exponentials are stored as they are; what is
divided by their sums are the much smaller outputs and gradients, and what the softmax takes back
from a gradient is a sum over a head's numbers, not over keys. Packing kernels costs a copy of them
and mixes what tensor parallelism splits, so it is for one device.

Suffixes: B samples, H heads, Q and K tokens, d numbers of a head; P kinds out of q, k and v.
"""

import jax
import jax.numpy as jnp

from mae_jax.models.fast import products
from mae_jax.models.fast.gradients import by_hand


def project(
    x_BND: jax.Array, kernel_3DD: jax.Array, bias_3D: jax.Array, queries: int | None = None
) -> list[jax.Array]:
    """Queries, keys and values of tokens, (B, N, D) each, from one product.

    From two, if only the first so many tokens have queries: (B, queries, D).
    """
    if queries is None:
        return _kinds(x_BND, kernel_3DD, bias_3D)
    (q_1DD, kv_2DD), (q_1D, kv_2D) = (jax.lax.split(p, (1, 2)) for p in (kernel_3DD, bias_3D))
    return [*_kinds(x_BND[:, :queries], q_1DD, q_1D), *_kinds(x_BND, kv_2DD, kv_2D)]


def _kinds(x_BND, kernel_PDD, bias_PD):
    kinds, inputs, _ = kernel_PDD.shape
    # In memory, so that XLA cannot fold it into products, which are slow on such strides.
    kernel = jax.lax.optimization_barrier(kernel_PDD.swapaxes(0, 1).reshape(inputs, -1))
    projected = products.project(x_BND, kernel) + bias_PD.reshape(1, 1, -1)
    return jnp.split(projected, kinds, axis=-1)


@by_hand
def attend(q_BHQd: jax.Array, k_BHKd: jax.Array, v_BHKd: jax.Array) -> jax.Array:
    """Values mixed for every query, (B, H, Q, d), in the arguments' type; softmax in float32."""
    return _forward(q_BHQd, k_BHKd, v_BHKd)[0]


@jax.named_scope("attention")
def _forward(q, k, v):
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k).astype(jnp.float32)
    exponentials = jnp.exp(scores - scores.max(-1, keepdims=True))
    # In memory as one number a row: XLA would write it as often as a head has numbers.
    inverse_BHQ1 = jax.lax.optimization_barrier(1 / exponentials.sum(-1, keepdims=True))
    exponentials = exponentials.astype(v.dtype)
    mixed = ((exponentials @ v) * inverse_BHQ1).astype(v.dtype)
    return mixed, (q, k, v, mixed, exponentials, inverse_BHQ1)


@jax.named_scope("attention")
def _backward(saved, ct_BHQd):
    q, k, v, mixed, exponentials, inverse_BHQ1 = saved
    ct = (ct_BHQd * inverse_BHQ1).astype(v.dtype)
    ct_weights = jnp.einsum("bhqd,bhkd->bhqk", ct, v).astype(jnp.float32)
    # What the softmax takes back: the weighted mean of the weights' gradients, over keys.
    mean_BHQ1 = (ct.astype(jnp.float32) * mixed.astype(jnp.float32)).sum(-1, keepdims=True)
    ct_scores = (exponentials * (ct_weights - mean_BHQ1)).astype(q.dtype)
    return ct_scores @ k, _over_queries(ct_scores, q), _over_queries(exponentials, ct)


def _over_queries(weights_BHQK, x_BHQd):
    """Sums over queries, (B, H, K, d). Products turn their first factor: let it be the smaller."""
    if weights_BHQK.shape[-1] > x_BHQd.shape[-1]:
        return jnp.einsum("bhqd,bhqk->bhdk", x_BHQd, weights_BHQK).swapaxes(2, 3)
    return jnp.einsum("bhqk,bhqd->bhkd", weights_BHQK, x_BHQd)


attend.defvjp(_forward, _backward)

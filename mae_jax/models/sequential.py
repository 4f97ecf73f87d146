"""Attention worked through sample by sample, for CPUs.

The weights of a whole batch are many times larger than a CPU's caches, and most of the time of
plain attention goes into moving them through memory. Those of one sample fit. They are never kept:
the backward pass makes them again from queries, keys and the logarithms of their sums.

Weights are laid out keys first, so that sums over keys run along rows of registers and all but
one of the seven products find XLA's fast kernels. One sample after the other means that the batch
must lie on one device.

Suffixes: B samples, H heads, Q and K tokens, d numbers of a head.
"""

import jax
import jax.numpy as jnp

# Bytes of all weights of a batch up to which it is worked through at once.
_CACHE = 4 * 2**20


@jax.custom_vjp
def attend(q_BHQd: jax.Array, k_BHKd: jax.Array, v_BHKd: jax.Array) -> jax.Array:
    """Values mixed for every query, (B, H, Q, d), in the arguments' type; softmax in float32."""
    return _forward(q_BHQd, k_BHKd, v_BHKd)[0]


def _forward(q, k, v):
    mixed, log_sums = jax.lax.map(lambda sample: _attend_one(*sample), (q, k, v))
    return mixed, (q, k, v, mixed, log_sums)


def _backward(saved, ct):
    return jax.lax.map(lambda sample: _differentiate_one(*sample), (*saved, ct))


attend.defvjp(_forward, _backward)


def _attend_one(q_HQd, k_HKd, v_HKd):
    scores_HKQ = _scores(q_HQd, k_HKd)
    largest = scores_HKQ.max(1, keepdims=True)
    exponentials = jnp.exp(scores_HKQ - largest)
    sums_H1Q = exponentials.sum(1, keepdims=True)
    mixed = jnp.einsum("hkq,hkd->hqd", exponentials.astype(v_HKd.dtype), v_HKd)
    mixed = (mixed / sums_H1Q.swapaxes(1, 2)).astype(v_HKd.dtype)
    return mixed, largest + jnp.log(sums_H1Q)


def _differentiate_one(q_HQd, k_HKd, v_HKd, mixed_HQd, log_sums_H1Q, ct_HQd):
    weights_HKQ = jnp.exp(_scores(q_HQd, k_HKd) - log_sums_H1Q)
    ct_weights = jnp.einsum("hkd,hqd->hkq", v_HKd, ct_HQd).astype(jnp.float32)
    # What the softmax takes back: the weighted mean of the weights' gradients, over keys.
    mean_HQ = (ct_HQd.astype(jnp.float32) * mixed_HQd.astype(jnp.float32)).sum(-1)
    ct_scores = (weights_HKQ * (ct_weights - mean_HQ[:, None])).astype(q_HQd.dtype)
    return (
        jnp.einsum("hkq,hkd->hqd", ct_scores, k_HKd),
        jnp.einsum("hkq,hqd->hkd", ct_scores, q_HQd),
        jnp.einsum("hkq,hqd->hkd", weights_HKQ.astype(ct_HQd.dtype), ct_HQd),
    )


def _scores(q_HQd, k_HKd):
    return jnp.einsum("hkd,hqd->hkq", k_HKd, q_HQd).astype(jnp.float32)


def pays(batch: int, heads: int, tokens: int) -> bool:
    """Whether the weights of a batch are too large for caches."""
    return 4 * batch * heads * tokens**2 > _CACHE

"""Attention over groups of heads that together are as wide as a TPU's registers, 128 lanes.

A head of 64 or 32 is narrower than the matrix unit and than a register, so that splitting an
activation into heads moves every number to another lane, and products leave half or three quarters
of the unit idle. Here a group of neighbouring heads stays together. One of the two factors of a
product over the group is repeated for each head with zeros in the places of the other heads, which
costs nothing in a unit that is padded to 128 anyway, and nothing moves between lanes.

The gradient is written by hand so that every product has this form, and so that the softmax is
never normalised at its full size: exponentials are stored, and what is divided by their sums are
the much smaller outputs and gradients.

Where samples have so few tokens that their keys would leave most lanes empty, several samples can
share a row of tokens. Tokens fill the registers better then in everything around attention, too.

Suffixes: G groups, h heads of a group, L lanes of a group; Q and K are tokens.
"""

import functools

import jax
import jax.numpy as jnp

from mae_jax.models.fast.gradients import by_hand

_LANES = 128


def fits(width: int, heads: int) -> bool:
    """Whether whole groups of heads fill registers."""
    return width % _LANES == 0 and _LANES % (width // heads) == 0


def split(x_BND: jax.Array, kernel_DD: jax.Array, bias_D: jax.Array) -> jax.Array:
    """(B, N, G, L): a linear map of tokens, in groups."""
    kernel_DGL = kernel_DD.reshape(len(kernel_DD), -1, _LANES)
    return jnp.einsum("bnd,dgl->bngl", x_BND, kernel_DGL) + bias_D.reshape(1, 1, -1, _LANES)


def join(x_BNGL: jax.Array, kernel_DD: jax.Array, bias_D: jax.Array) -> jax.Array:
    """(B, N, D): a linear map of tokens in groups."""
    kernel_GLD = kernel_DD.reshape(-1, _LANES, kernel_DD.shape[-1])
    return jnp.einsum("bngl,gld->bnd", x_BNGL, kernel_GLD) + bias_D.reshape(1, 1, -1)


def samples_in_a_row(samples: int, tokens: int) -> int:
    """How many samples of so many tokens best share a row: what divides them and fits the lanes."""
    fitting = range(1, min(samples, _LANES // tokens) + 1)
    return max((n for n in fitting if samples % n == 0), default=1)


@functools.partial(by_hand, static=(3, 4))
def attend(
    q_BQGL: jax.Array, k_BKGL: jax.Array, v_BKGL: jax.Array, size: int, samples: int = 1
) -> jax.Array:
    """Softmax attention of scaled queries over heads of `size`, (B, Q, G, L).

    A row of tokens holds `samples` samples one after the other, which do not see each other.
    """
    return _forward(q_BQGL, k_BKGL, v_BKGL, size, samples)[0]


@jax.named_scope("attention")
def _forward(q_BQGL, k_BKGL, v_BKGL, size, samples):
    scores = jnp.einsum("bqghl,bkgl->bghqk", _by_head(q_BQGL, size), k_BKGL).astype(jnp.float32)
    if samples > 1:
        scores = jnp.where(_of_one_sample(*scores.shape[-2:], samples), scores, -jnp.inf)
    exps_BGhQK = jnp.exp(scores - scores.max(-1, keepdims=True)).astype(q_BQGL.dtype)
    # Their sums as a product too, in all lanes of a head: cheaper than adding up numbers in memory.
    ones_BKGhL = _by_head(jnp.ones_like(v_BKGL), size)
    sums_BQGL = jnp.einsum(
        "bghqk,bkghl->bqgl", exps_BGhQK, ones_BKGhL, preferred_element_type=jnp.float32
    )
    share_BQGL = (1 / sums_BQGL).astype(q_BQGL.dtype)
    mixed_BQGL = jnp.einsum("bghqk,bkghl->bqgl", exps_BGhQK, _by_head(v_BKGL, size)) * share_BQGL
    return mixed_BQGL, (q_BQGL, k_BKGL, v_BKGL, mixed_BQGL, exps_BGhQK, share_BQGL)


@jax.named_scope("attention")
def _backward(size, samples, saved, ct_BQGL):
    del samples  # exponentials between samples are zero
    q_BQGL, k_BKGL, v_BKGL, mixed_BQGL, exps_BGhQK, share_BQGL = saved
    ct_BQGL = ct_BQGL * share_BQGL
    # Softmax subtracts the weights' mean of the gradient, which is also this product.
    mean_BGhQ = jnp.einsum("bqgl,hl->bghq", ct_BQGL * mixed_BQGL, _heads(size, ct_BQGL.dtype))
    ct_BQGhL = _by_head(ct_BQGL, size)
    ct_weights = jnp.einsum("bqghl,bkgl->bghqk", ct_BQGhL, v_BKGL).astype(jnp.float32)
    ct_scores = exps_BGhQK.astype(jnp.float32) * (ct_weights - mean_BGhQ[..., None])
    ct_scores = ct_scores.astype(q_BQGL.dtype)
    ct_q = jnp.einsum("bghqk,bkghl->bqgl", ct_scores, _by_head(k_BKGL, size))
    ct_k = jnp.einsum("bghqk,bqghl->bkgl", ct_scores, _by_head(q_BQGL, size))
    ct_v = jnp.einsum("bghqk,bqghl->bkgl", exps_BGhQK, ct_BQGhL)
    return ct_q, ct_k, ct_v


attend.defvjp(_forward, _backward)


def _heads(size: int, dtype) -> jax.Array:
    """(h, L): 1 where a lane belongs to a head of `size` lanes."""
    return jnp.repeat(jnp.eye(_LANES // size, dtype=dtype), size, axis=1)


def _by_head(x_BNGL: jax.Array, size: int) -> jax.Array:
    """(B, N, G, h, L): a copy for each head of the group, zero in the lanes of the others."""
    return x_BNGL[:, :, :, None] * _heads(size, x_BNGL.dtype)[None, None, None]


def _of_one_sample(queries: int, keys: int, samples: int) -> jax.Array:
    """(1, 1, 1, Q, K): whether a query and a key are of the same of `samples` samples."""
    query, key = (jnp.arange(count) // (count // samples) for count in (queries, keys))
    return (query[:, None] == key[None, :])[None, None, None]

"""Attention over groups of heads that together are as wide as a TPU's registers, 128 lanes.

A head of 64 or 32 is narrower than the matrix unit and than a register, so that splitting an
activation into heads moves every number to another lane, and products leave half or three quarters
of the unit idle. Here a group of neighbouring heads stays together. One of the two factors of a
product over the group is repeated for each head with zeros in the places of the other heads, which
costs nothing in a unit that is padded to 128 anyway, and nothing moves between lanes.

The gradient is written by hand so that every product has this form, and so that the softmax is
never normalised at its full size: exponentials are stored, and what is divided by their sums are
the much smaller outputs and gradients.

Suffixes: G groups, h heads of a group, L lanes of a group; Q and K are tokens. Samples come before
tokens, or tokens before samples (`tokens_first`): that suits numbers of tokens that are no multiple
of a register's 8 rows: those of all other layers are then full.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint

_LANES, _ROWS = 128, 8
# Below this share of rows that are filling, turning queries, keys and values costs more than it
# saves: measured at 2% (197 tokens) and 12% (50 tokens).
_WORTH_TURNING = 0.06


def fits(width: int, heads: int) -> bool:
    """Whether whole groups of heads fill registers."""
    return width % _LANES == 0 and _LANES % (width // heads) == 0


def tokens_first(tokens: int) -> bool:
    """Whether tokens should come before samples, so that fewer rows of registers are filling."""
    return -tokens % _ROWS > _WORTH_TURNING * tokens


def split(x: jax.Array, kernel_DD: jax.Array, tokens_first: bool = False) -> jax.Array:
    """(B, N, G, L) or (N, B, G, L): tokens (B, N, D) or (N, B, D) times a kernel, in groups."""
    kernel_DGL = kernel_DD.reshape(len(kernel_DD), -1, _LANES)
    if not tokens_first:
        return jnp.einsum("bnd,dgl->bngl", x, kernel_DGL)
    # Products over heads want samples outermost in memory. Left to itself the compiler turns what
    # the product has written; told so, the product writes that way.
    return _samples_outermost(jnp.einsum("nbd,dgl->nbgl", x, kernel_DGL))


def join(x: jax.Array, kernel_DD: jax.Array) -> jax.Array:
    """Tokens in groups times a kernel: the last two axes to one."""
    kernel_GLD = kernel_DD.reshape(-1, _LANES, kernel_DD.shape[-1])
    return jnp.einsum("xygl,gld->xyd", x, kernel_GLD)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, size: int, tokens_first: bool = False
) -> jax.Array:
    """Softmax attention of scaled queries over heads of `size`.

    Args:
      q, k, v: (B, N, G, L), or (N, B, G, L) if `tokens_first`; so is what is returned.
    """
    return _forward(q, k, v, size, tokens_first)[0]


def _tokens(tokens_first):
    """Letters of queries' and keys' first two axes in the equations below."""
    return ("qb", "kb") if tokens_first else ("bq", "bk")


@jax.named_scope("attention")
def _forward(q, k, v, size, tokens_first):
    Q, K = _tokens(tokens_first)
    scores = jnp.einsum(f"{Q}ghl,{K}gl->bghqk", _by_head(q, size), k).astype(jnp.float32)
    exps = jnp.exp(scores - scores.max(-1, keepdims=True))
    share = _over_lanes(1 / exps.sum(-1), size, Q).astype(q.dtype)
    exps_BGhQK = exps.astype(q.dtype)
    mixed = jnp.einsum(f"bghqk,{K}ghl->{Q}gl", exps_BGhQK, _by_head(v, size)) * share
    return mixed, (q, k, v, mixed, exps_BGhQK, share)


@jax.named_scope("attention")
def _backward(size, tokens_first, saved, ct):
    Q, K = _tokens(tokens_first)
    q, k, v, mixed, exps_BGhQK, share = saved
    ct = ct * share
    # Softmax subtracts the weights' mean of the gradient, which is also this product.
    mean_BGhQ = jnp.einsum(f"{Q}gl,hl->bghq", ct * mixed, _heads(size, ct.dtype))
    ct_by_head = _by_head(ct, size)
    ct_weights = jnp.einsum(f"{Q}ghl,{K}gl->bghqk", ct_by_head, v).astype(jnp.float32)
    ct_scores = exps_BGhQK.astype(jnp.float32) * (ct_weights - mean_BGhQ[..., None])
    ct_scores = ct_scores.astype(q.dtype)
    ct_q = jnp.einsum(f"bghqk,{K}ghl->{Q}gl", ct_scores, _by_head(k, size))
    ct_k = jnp.einsum(f"bghqk,{Q}ghl->{K}gl", ct_scores, _by_head(q, size))
    ct_v = jnp.einsum(f"bghqk,{Q}ghl->{K}gl", exps_BGhQK, ct_by_head)
    return ct_q, ct_k, ct_v


attend.defvjp(_forward, _backward)


def _heads(size: int, dtype) -> jax.Array:
    """(h, L): 1 where a lane belongs to a head of `size` lanes."""
    return jnp.repeat(jnp.eye(_LANES // size, dtype=dtype), size, axis=1)


def _by_head(x: jax.Array, size: int) -> jax.Array:
    """(…, G, h, L): a copy for each head of the group, zero in the lanes of the others."""
    return x[:, :, :, None] * _heads(size, x.dtype)[None, None, None]


def _over_lanes(x_BGhQ: jax.Array, size: int, Q: str) -> jax.Array:
    """(B, Q, G, L) or (Q, B, G, L): the number of a head in each of its lanes."""
    # As a product: spreading numbers over lanes any other way is slow. Each sum has one term.
    return jnp.einsum(f"bghq,hl->{Q}gl", x_BGhQ, _heads(size, x_BGhQ.dtype))


def _samples_outermost(x_NBGL: jax.Array) -> jax.Array:
    """The same array, with samples, groups, tokens and lanes in this order in a TPU's memory."""
    return jax.lax.platform_dependent(
        x_NBGL,
        tpu=lambda x: with_layout_constraint(x, Layout((1, 2, 0, 3))),
        default=lambda x: x,
    )

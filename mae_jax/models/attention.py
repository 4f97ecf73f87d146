"""Multi-head attention (Vaswani et al. 2017)."""

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from mae_jax.models.fast import products
from mae_jax.models.layers import Affine, Linear, Projections


class Attend(Protocol):
    """A way to compute attention: `attend`, or what gives its numbers sooner (`fast/ways.py`)."""

    def __call__(
        self, x_BND: jax.Array, qkv: Affine, out: Affine, heads: int, queries: int | None = None
    ) -> jax.Array: ...


def attend(
    x_BND: jax.Array, qkv: Affine, out: Affine, heads: int, queries: int | None = None
) -> jax.Array:
    """softmax(q k^T / sqrt(d)) v for every head, and a linear map of what the heads give.

    Args:
      x_BND: tokens, which queries, keys and values are made from.
      qkv: the linear maps to these, kernel (3, D, D).
      out: the last linear map.
      heads: that the width is divided into.
      queries: only the first so many tokens look; all by default.

    Returns:
      (B, N, D), or (B, queries, D).
    """
    return look(x_BND, x_BND[:, :queries], qkv, out, heads)


def look(seen_BKD: jax.Array, x_BQD: jax.Array, qkv: Affine, out: Affine, heads: int) -> jax.Array:
    """The same of tokens that look at others, and not at themselves.

    Args:
      seen_BKD: tokens, which keys and values are made from.
      x_BQD: those that look, of which queries are made.
      qkv: as of `attend`; so are `out` and `heads`.

    Returns:
      (B, Q, D).
    """
    to_q, to_k, to_v = kinds(qkv)
    q, k, v = to_q(x_BQD), to_k(seen_BKD), to_v(seen_BKD)
    q *= scale(x_BQD, heads)
    q, k, v = (split_heads(x, heads) for x in (q, k, v))
    weights = _weigh(q, k).astype(x_BQD.dtype)
    with jax.named_scope("attention"):  # by which `plan` knows it
        mixed = products.mix(weights, v)
    return out(join_heads(mixed))


def kinds(qkv: Affine) -> list[Affine]:
    """The maps to queries, to keys and to values."""
    # Split, as the gradient of that is one concatenation, where slices would be padded.
    kernels, biases = (jax.lax.split(p, (1, 1, 1)) for p in qkv)
    return [Affine(kernel[0], bias[0]) for kernel, bias in zip(kernels, biases, strict=True)]


def scale(x_BND: jax.Array, heads: int) -> float:
    """What queries are multiplied by: 1 / sqrt(d), d numbers of a head."""
    return (x_BND.shape[-1] // heads) ** -0.5


def split_heads(x_BND: jax.Array, heads: int) -> jax.Array:
    """(B, H, N, d)."""
    # Heads before tokens: XLA's CPU matmul is several times faster on this layout.
    return jnp.moveaxis(x_BND.reshape(*x_BND.shape[:2], heads, -1), 2, 1)


def join_heads(x_BHNd: jax.Array) -> jax.Array:
    """(B, N, D)."""
    x_BNHd = jnp.moveaxis(x_BHNd, 1, 2)
    return x_BNHd.reshape(*x_BNHd.shape[:2], -1)


def _weigh(q_BHNd: jax.Array, k_BHNd: jax.Array) -> jax.Array:
    with jax.named_scope("attention"):
        return jax.nn.softmax(products.scores(q_BHNd, k_BHNd).astype(jnp.float32))


class Attention(nnx.Module):
    """Self-attention with its parameters."""

    def __init__(self, width: int, heads: int, *, dtype: Dtype, rngs: nnx.Rngs):
        self.heads, self.dtype = heads, dtype
        self.qkv = Projections(width, dtype=dtype, rngs=rngs)
        self.proj = Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(
        self, x_BND: jax.Array, *, attend: Attend = attend, queries: int | None = None
    ) -> jax.Array:
        """(B, N, D) to the same, or to (B, queries, D); arguments as of `transformer.Block`."""
        x_BND = x_BND.astype(self.dtype)
        return attend(x_BND, self.qkv.affine(), self.proj.affine(), self.heads, queries)

    def weights(self, x_BND: jax.Array) -> jax.Array:
        """(B, H, N, N) float32: how much every token, by row, takes from every other."""
        x_BND = x_BND.astype(self.dtype)
        to_q, to_k, _ = kinds(self.qkv.affine())
        q, k = to_q(x_BND) * scale(x_BND, self.heads), to_k(x_BND)
        return _weigh(split_heads(q, self.heads), split_heads(k, self.heads))

"""The pre-norm transformer every part of MAE is made of."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from mae_jax.models import attention
from mae_jax.models.fast.gelu import gelu
from mae_jax.models.layers import LayerNorm, Linear

GELUS = {"erf": gelu, "tanh": functools.partial(jax.nn.gelu, approximate=True)}


class Mlp(nnx.Module):
    """Two linear layers with GELU between, four times wider inside.

    Args:
      gelu: "erf" is exact; "tanh" is the formula that others trained with (Hendrycks & Gimpel
        2016), which differs from it by at most 5e-4.
    """

    def __init__(self, width: int, *, gelu: str = "erf", dtype: Dtype, rngs: nnx.Rngs):
        self.gelu = gelu
        self.fc1 = Linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(4 * width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        return self.fc2(GELUS[self.gelu](self.fc1(x_BND)))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    With drop path (Huang et al. 2016) both branches are scaled per sample, by `drop_path_scales`.
    """

    def __init__(self, width: int, heads: int, *, gelu: str = "erf", dtype: Dtype, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attn = attention.Attention(width, heads, dtype=dtype, rngs=rngs)
        self.norm2 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.mlp = Mlp(width, gelu=gelu, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x_BND: jax.Array,
        scale_B2: jax.Array | None = None,
        *,
        attend: attention.Attend = attention.attend,
        queries: int | None = None,
    ) -> jax.Array:
        """(B, N, D) to the same, or to (B, queries, D).

        Args:
          x_BND: tokens.
          scale_B2: of both branches, for every sample.
          attend: how attention is computed.
          queries: only the first so many tokens come out; the others are looked at.
        """
        mixed = self.attn(self.norm1(x_BND), attend=attend, queries=queries)
        x_BND = x_BND[:, :queries] + _scaled(mixed, scale_B2, 0)
        return x_BND + _scaled(self.mlp(self.norm2(x_BND)), scale_B2, 1)


def _scaled(branch_BND, scale_B2, index):
    if scale_B2 is None:
        return branch_BND
    return branch_BND * scale_B2[:, index, None, None].astype(branch_BND.dtype)


def drop_path_scales(key: jax.Array, batch: int, depth: int, rate: float) -> jax.Array:
    """What every branch of every sample is scaled by, (B, depth, 2) float32: 0, or 1 / kept.

    Branches of block i are dropped with probability rate * i / (depth - 1), each by itself, and
    scaled so that their expectation stays.
    """
    kept = 1 - jnp.linspace(0, rate, depth)[None, :, None]
    return jax.random.bernoulli(key, kept, (batch, depth, 2)) / kept


def blocks(
    width: int, heads: int, depth: int, *, gelu: str = "erf", dtype: Dtype, rngs: nnx.Rngs
) -> nnx.List:
    """`depth` blocks, each with its own parameters; `gelu` as of `Mlp`."""
    return nnx.List([Block(width, heads, gelu=gelu, dtype=dtype, rngs=rngs) for _ in range(depth)])


def apply_blocks(
    stack: nnx.List,
    x_BND: jax.Array,
    *,
    scan: bool,
    remat: bool = False,
    scales: jax.Array | None = None,
    attend: attention.Attend = attention.attend,
    queries: int | None = None,
) -> jax.Array:
    """Runs the blocks one after the other.

    Args:
      scan: the program is compiled once for all blocks instead of once for each. Parameters are
        stacked on the fly, so that checkpoints and sharding rules are the same either way.
      remat: the gradient computes a block again from its input instead of storing what is inside.
      scales: of their branches, (B, blocks, 2); see `drop_path_scales`.
      attend: as of `Block`.
      queries: only the first so many tokens come out of the last block, as of `Block`.
    """
    structure = nnx.graphdef(stack[0])

    def running(queries):
        def step(x_BND, one):
            state, scale_B2 = one
            block = nnx.merge(structure, state)
            return block(x_BND, scale_B2, attend=attend, queries=queries), None

        return jax.checkpoint(step) if remat else step

    ones = [
        (nnx.state(block), None if scales is None else scales[:, index])
        for index, block in enumerate(stack)
    ]
    # Where not all tokens come out, the last block is a program of its own.
    alike = len(ones) if queries is None else len(ones) - 1
    if scan and alike > 1:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *ones[:alike])
        x_BND, _ = jax.lax.scan(running(None), x_BND, stacked)
    else:
        for one in ones[:alike]:
            x_BND, _ = running(None)(x_BND, one)
    for one in ones[alike:]:
        x_BND, _ = running(queries)(x_BND, one)
    return x_BND

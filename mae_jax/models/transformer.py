"""The pre-norm transformer every part of MAE is made of."""

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from mae_jax.models import products

xavier = nnx.initializers.xavier_uniform()


def layer_norm(width: int, dtype: Dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm with ViT's epsilon of 1e-6 and statistics in float32, two-pass."""
    return nnx.LayerNorm(width, epsilon=1e-6, use_fast_variance=False, dtype=dtype, rngs=rngs)


def linear(inputs: int, outputs: int, dtype: Dtype, rngs: nnx.Rngs) -> nnx.Linear:
    """A linear layer with a Xavier-uniform kernel and zero biases."""
    return nnx.Linear(
        inputs,
        outputs,
        kernel_init=xavier,
        dtype=dtype,
        dot_general=products.dot_general,
        rngs=rngs,
    )


class Attention(nnx.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values.

    Its columns are ordered (head, query | key | value, place in the head): equal parts of them are
    whole heads, which is how tensor parallelism splits them. The reference has (query | key |
    value, head, place).
    """

    def __init__(self, width: int, heads: int, *, dtype: Dtype, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = linear(width, 3 * width, dtype, rngs)
        self.proj = linear(width, width, dtype, rngs)

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        q, k, v = self._project(x_BND)
        mixed = products.mix(_weigh(q, k).astype(x_BND.dtype), v)
        return self.proj(jnp.moveaxis(mixed, 1, 2).reshape(x_BND.shape))

    def weights(self, x_BND: jax.Array) -> jax.Array:
        """(B, H, N, N) float32: how much every token, by row, takes from every other."""
        q, k, _ = self._project(x_BND)
        return _weigh(q, k)

    def _project(self, x_BND):
        batch, tokens, width = x_BND.shape
        qkv = self.qkv(x_BND).reshape(batch, tokens, self.heads, 3, width // self.heads)
        # Heads before tokens: XLA's CPU matmul is several times faster on this layout.
        return jnp.moveaxis(qkv, (3, 2), (0, 2))


def _weigh(q_BHNd: jax.Array, k_BHNd: jax.Array) -> jax.Array:
    scores = products.scores(q_BHNd * q_BHNd.shape[-1] ** -0.5, k_BHNd)
    return jax.nn.softmax(scores.astype(jnp.float32))


def gelu(x: jax.Array) -> jax.Array:
    """x times the normal distribution's cumulative function: exact, not the tanh formula."""
    # jax.nn.gelu takes erfc, which costs more and is finer only far below what a bf16 holds.
    return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))


class Mlp(nnx.Module):
    """Two linear layers with exact (erf) GELU between, four times wider inside."""

    def __init__(self, width: int, *, dtype: Dtype, rngs: nnx.Rngs):
        self.fc1 = linear(width, 4 * width, dtype, rngs)
        self.fc2 = linear(4 * width, width, dtype, rngs)

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        return self.fc2(gelu(self.fc1(x_BND)))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    With drop path (Huang et al. 2016) both branches are scaled per sample, by `drop_path_scales`.
    """

    def __init__(self, width: int, heads: int, *, dtype: Dtype, rngs: nnx.Rngs):
        self.norm1 = layer_norm(width, dtype, rngs)
        self.attn = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.norm2 = layer_norm(width, dtype, rngs)
        self.mlp = Mlp(width, dtype=dtype, rngs=rngs)

    def __call__(self, x_BND: jax.Array, scale_B2: jax.Array | None = None) -> jax.Array:
        x_BND = x_BND + _scaled(self.attn(self.norm1(x_BND)), scale_B2, 0)
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


def blocks(width: int, heads: int, depth: int, *, dtype: Dtype, rngs: nnx.Rngs) -> nnx.List:
    """`depth` blocks, each with its own parameters."""
    return nnx.List([Block(width, heads, dtype=dtype, rngs=rngs) for _ in range(depth)])


def apply_blocks(
    stack: nnx.List, x_BND: jax.Array, *, scan: bool, scales: jax.Array | None = None
) -> jax.Array:
    """Runs the blocks one after the other.

    Args:
      scales: of their branches, (B, blocks, 2); see `drop_path_scales`.

    Scanned, the program is compiled once for all blocks instead of once for each. Parameters are
    stacked on the fly, so that checkpoints and sharding rules are the same either way.
    """
    if not scan or len(stack) == 1:
        for index, block in enumerate(stack):
            x_BND = block(x_BND, None if scales is None else scales[:, index])
        return x_BND
    structure = nnx.graphdef(stack[0])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[nnx.state(b) for b in stack])

    def step(x_BND, one):
        state, scale_B2 = one
        return nnx.merge(structure, state)(x_BND, scale_B2), None

    by_block = None if scales is None else jnp.moveaxis(scales, 1, 0)
    return jax.lax.scan(step, x_BND, (stacked, by_block))[0]

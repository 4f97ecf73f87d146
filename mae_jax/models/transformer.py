"""The pre-norm transformer every part of MAE is made of."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from mae_jax.models import grouped_heads, packed, products
from mae_jax.models.normalisation import LayerNorm

Project = Callable[[jax.Array, jax.Array], jax.Array]
xavier = nnx.initializers.xavier_uniform()


class Linear(nnx.Module):
    """A linear layer with a Xavier-uniform kernel (D, F) and zero biases (F,)."""

    def __init__(self, inputs: int, outputs: int, *, dtype: Dtype, rngs: nnx.Rngs):
        self.kernel = nnx.Param(xavier(rngs.params(), (inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))
        self.dtype = dtype

    def __call__(self, x: jax.Array, project: Project = products.project) -> jax.Array:
        """What `project` makes of tokens and kernel, plus the biases: (…, D) to (…, F)."""
        kernel_DF, bias_F = (p[...].astype(self.dtype) for p in (self.kernel, self.bias))
        y = project(x.astype(self.dtype), kernel_DF)
        return y + bias_F.reshape(*[1] * (y.ndim - 1), -1)


class Projections(nnx.Module):
    """Queries, keys and values in one parameter: kernel (3, D, D) and bias (3, D).

    Kinds come first so that equal parts of the last axis are whole heads, which is how tensor
    parallelism splits them, and so that each kind is contiguous.
    """

    def __init__(self, width: int, *, dtype: Dtype, rngs: nnx.Rngs):
        # Xavier over the one matrix (D, 3 D) that the three are in the reference.
        kernel = xavier(rngs.params(), (width, 3 * width), jnp.float32)
        self.kernel = nnx.Param(kernel.reshape(width, 3, width).swapaxes(0, 1))
        self.bias = nnx.Param(jnp.zeros((3, width), jnp.float32))
        self.dtype = dtype

    def __call__(
        self,
        x_BND: jax.Array,
        query_scale: float,
        project: Project = products.project,
        *,
        queries: int | None = None,
    ) -> list[jax.Array]:
        """Queries, keys and values as `project` gives them; queries times `query_scale`.

        Queries are of the first `queries` tokens alone, if that is given.
        """
        x_BND = x_BND.astype(self.dtype)
        # Split, as the gradient of that is one concatenation, where slices would be padded.
        kernel_3DD, bias_3D = (p[...].astype(self.dtype) for p in (self.kernel, self.bias))
        kinds = (jax.lax.split(p, (1, 1, 1)) for p in (kernel_3DD, bias_3D))
        projected = []
        for tokens_BND, kernel_1DD, bias_1D in zip(
            (x_BND[:, :queries], x_BND, x_BND), *kinds, strict=True
        ):
            x = project(tokens_BND, kernel_1DD[0])
            projected.append(x + bias_1D.reshape(1, 1, *x.shape[2:]))
        projected[0] *= query_scale
        return projected

    def packed(
        self, x_BND: jax.Array, query_scale: float, *, queries: int | None = None
    ) -> list[jax.Array]:
        """The same from one product; from two, if queries are fewer."""
        x_BND = x_BND.astype(self.dtype)
        kernel_3DD, bias_3D = (p[...].astype(self.dtype) for p in (self.kernel, self.bias))
        if queries is None:
            projected = packed.project(x_BND, kernel_3DD, bias_3D)
        else:
            (q_1DD, kv_2DD), (q_1D, kv_2D) = (
                jax.lax.split(p, (1, 2)) for p in (kernel_3DD, bias_3D)
            )
            projected = [
                *packed.project(x_BND[:, :queries], q_1DD, q_1D),
                *packed.project(x_BND, kv_2DD, kv_2D),
            ]
        projected[0] *= query_scale
        return projected


class Attention(nnx.Module):
    """Multi-head self-attention.

    Args:
      attention: how heads are multiplied, the same in exact numbers: "plain"; "grouped", as wide as
        a TPU's registers; "packed", in few passes over memory, for a single CPU.
    """

    def __init__(
        self, width: int, heads: int, *, attention: str = "plain", dtype: Dtype, rngs: nnx.Rngs
    ):
        self.heads, self.attention = heads, attention
        self.qkv = Projections(width, dtype=dtype, rngs=rngs)
        self.proj = Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(
        self, x_BND: jax.Array, *, queries: int | None = None, samples: int = 1
    ) -> jax.Array:
        """(B, N, D) to the same, or to (B, queries, D); arguments as of `Block`."""
        width = x_BND.shape[-1]
        if self.is_grouped(width):
            q, k, v = self.qkv(x_BND, self._scale(width), grouped_heads.split, queries=queries)
            mixed = grouped_heads.attend(q, k, v, width // self.heads, samples)
            return self.proj(mixed, grouped_heads.join)
        if samples > 1:
            raise ValueError("samples share a row of tokens only where heads are grouped")
        is_packed = self.attention == "packed"
        project = self.qkv.packed if is_packed else self.qkv
        q, k, v = (self._split(x) for x in project(x_BND, self._scale(width), queries=queries))
        if is_packed:
            mixed = packed.attend(q, k, v)
        else:
            weights = _weigh(q, k).astype(x_BND.dtype)
            with jax.named_scope("attention"):
                mixed = products.mix(weights, v)
        return self.proj(jnp.moveaxis(mixed, 1, 2).reshape(x_BND.shape[0], -1, width))

    def weights(self, x_BND: jax.Array) -> jax.Array:
        """(B, H, N, N) float32: how much every token, by row, takes from every other."""
        q, k, _ = self.qkv(x_BND, self._scale(x_BND.shape[-1]))
        return _weigh(self._split(q), self._split(k))

    def is_grouped(self, width: int) -> bool:
        """Whether heads are multiplied in groups."""
        return self.attention == "grouped" and grouped_heads.fits(width, self.heads)

    def _scale(self, width):
        return (width // self.heads) ** -0.5

    def _split(self, x_BND):
        # Heads before tokens: XLA's CPU matmul is several times faster on this layout.
        return jnp.moveaxis(x_BND.reshape(*x_BND.shape[:2], self.heads, -1), 2, 1)


def _weigh(q_BHNd: jax.Array, k_BHNd: jax.Array) -> jax.Array:
    with jax.named_scope("attention"):
        return jax.nn.softmax(products.scores(q_BHNd, k_BHNd).astype(jnp.float32))


def gelu(x: jax.Array) -> jax.Array:
    """x times the normal distribution's cumulative function: exact, not the tanh formula.

    In bfloat16, whose steps are 4e-3 just below 1, it is off by at most 5e-5 and its gradient by
    5e-4, which is several times cheaper than erf on a TPU.
    """
    if x.dtype == jnp.bfloat16:
        return _coarse_gelu(x)
    return _exact_gelu(x)


@jax.custom_vjp
def _exact_gelu(x):
    # jax.nn.gelu takes erfc, which costs more and is finer only far below what a bf16 holds.
    return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))


def _exact_gelu_forward(x):
    return _exact_gelu(x), x


def _exact_gelu_backward(x, ct):
    # Of minus x: were it the number above, XLA would store that instead of computing it again.
    cumulative = 0.5 - 0.5 * jax.lax.erf(x * -(0.5**0.5))
    density = jnp.exp(x * x * -0.5) * (2 * jnp.pi) ** -0.5
    return (ct * (cumulative + x * density),)


_exact_gelu.defvjp(_exact_gelu_forward, _exact_gelu_backward)


# The derivative less a half is odd: this times x, a polynomial of x^2, fitted to it (least largest
# error) where |x| <= 4, and so that it is one half at 4, where both it and gelu turn straight.
_STRAIGHT = 4.0
_DERIVATIVE = (
    0.79676592,
    -0.26218048,
    0.056046985,
    -0.0077354275,
    6.9623615e-4,
    -3.9260617e-5,
    1.2510800e-6,
    -1.7102897e-8,
)


@jax.custom_vjp
def _coarse_gelu(x):
    y = x.astype(jnp.float32)
    # A logistic of an odd polynomial: that is 0 or 1 at 6 already, and turns round beyond 10.
    odd = jnp.clip(y, -6.0, 6.0)
    square = odd * odd
    odd *= 1.59501576 + square * (0.0740113019 - square * 7.03035064e-4)
    return (y * jax.nn.sigmoid(odd)).astype(x.dtype)


def _coarse_gelu_forward(x):
    return _coarse_gelu(x), x


def _coarse_gelu_backward(x, ct):
    odd = jnp.clip(x.astype(jnp.float32), -_STRAIGHT, _STRAIGHT)
    square, factor = odd * odd, _DERIVATIVE[-1]
    for coefficient in reversed(_DERIVATIVE[:-1]):
        factor = factor * square + coefficient
    return ((ct.astype(jnp.float32) * (0.5 + odd * factor)).astype(x.dtype),)


_coarse_gelu.defvjp(_coarse_gelu_forward, _coarse_gelu_backward)


class Mlp(nnx.Module):
    """Two linear layers with exact (erf) GELU between, four times wider inside."""

    def __init__(self, width: int, *, dtype: Dtype, rngs: nnx.Rngs):
        self.fc1 = Linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.fc2 = Linear(4 * width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x_BND: jax.Array) -> jax.Array:
        return self.fc2(gelu(self.fc1(x_BND)))


def _normalise(norm, x_BND):
    with jax.named_scope("normalisation"):  # by which `plan` knows it
        return norm(x_BND)


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    With drop path (Huang et al. 2016) both branches are scaled per sample, by `drop_path_scales`.
    """

    def __init__(
        self, width: int, heads: int, *, attention: str = "plain", dtype: Dtype, rngs: nnx.Rngs
    ):
        self.norm1 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attn = Attention(width, heads, attention=attention, dtype=dtype, rngs=rngs)
        self.norm2 = LayerNorm(width, dtype=dtype, rngs=rngs)
        self.mlp = Mlp(width, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x_BND: jax.Array,
        scale_B2: jax.Array | None = None,
        *,
        queries: int | None = None,
        samples: int = 1,
    ) -> jax.Array:
        """(B, N, D) to the same, or to (B, queries, D).

        Args:
          x_BND: tokens.
          scale_B2: of both branches, for every sample.
          queries: only the first so many tokens come out; the others are looked at.
          samples: how many lie in a row of tokens one after the other, not seeing each other.
        """
        mixed = self.attn(_normalise(self.norm1, x_BND), queries=queries, samples=samples)
        x_BND = x_BND[:, :queries] + _scaled(mixed, scale_B2, 0)
        return x_BND + _scaled(self.mlp(_normalise(self.norm2, x_BND)), scale_B2, 1)


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


def blocks(width: int, heads: int, depth: int, **arguments) -> nnx.List:
    """`depth` blocks, each with its own parameters; `arguments` as of `Block`."""
    return nnx.List([Block(width, heads, **arguments) for _ in range(depth)])


def apply_blocks(
    stack: nnx.List,
    x_BND: jax.Array,
    *,
    scan: bool,
    remat: bool = False,
    scales: jax.Array | None = None,
    queries: int | None = None,
    samples: int = 1,
) -> jax.Array:
    """Runs the blocks one after the other.

    Args:
      scan: the program is compiled once for all blocks instead of once for each. Parameters are
        stacked on the fly, so that checkpoints and sharding rules are the same either way.
      remat: the gradient computes a block again from its input instead of storing what is inside.
      scales: of their branches, (B, blocks, 2); see `drop_path_scales`.
      queries: only the first so many tokens come out of the last block, as of `Block`.
      samples: how many share a row of tokens, as of `Block`.
    """
    structure = nnx.graphdef(stack[0])

    def running(queries):
        def step(x_BND, one):
            state, scale_B2 = one
            block = nnx.merge(structure, state)
            return block(x_BND, scale_B2, queries=queries, samples=samples), None

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

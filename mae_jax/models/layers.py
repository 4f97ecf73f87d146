"""What a transformer is built of: linear maps and LayerNorm, parameters in float32."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype

from mae_jax.models.fast import products
from mae_jax.models.fast.normalisation import normalise

xavier = nnx.initializers.xavier_uniform()


class Affine(NamedTuple):
    """A linear map's kernel (…, D, F) and bias (…, F), in the type it is computed in."""

    kernel: jax.Array
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """x times kernel plus bias: (…, D) to (…, F)."""
        y = products.project(x, self.kernel)
        return y + self.bias.reshape(*[1] * (y.ndim - 1), -1)


class Linear(nnx.Module):
    """A linear layer with a Xavier-uniform kernel (D, F) and zero biases (F,)."""

    def __init__(self, inputs: int, outputs: int, *, dtype: Dtype, rngs: nnx.Rngs):
        self.kernel = nnx.Param(xavier(rngs.params(), (inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))
        self.dtype = dtype

    def affine(self) -> Affine:
        """Its parameters as they are computed with."""
        return Affine(*(p[...].astype(self.dtype) for p in (self.kernel, self.bias)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """(…, D) to (…, F)."""
        return self.affine()(x.astype(self.dtype))


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

    def affine(self) -> Affine:
        """Its parameters as they are computed with, kinds first."""
        return Affine(*(p[...].astype(self.dtype) for p in (self.kernel, self.bias)))


class LayerNorm(nnx.LayerNorm):
    """LayerNorm over the last axis (Ba et al. 2016), with statistics in float32.

    In one pass where activations are bfloat16, which are coarser than what that costs.

    Args:
      width: of the last axis; `scale` and `bias` are (width,).
      dtype: of the result.
    """

    def __init__(self, width: int, *, dtype: Dtype, rngs: nnx.Rngs):
        one_pass = jnp.dtype(dtype) == jnp.bfloat16
        super().__init__(width, epsilon=1e-6, use_fast_variance=one_pass, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(…, D) to the same."""
        with jax.named_scope("normalisation"):  # by which `plan` knows it
            if self.use_fast_variance:
                return super().__call__(x)
            y = normalise(x.astype(jnp.float32), self.scale[...], self.bias[...], self.epsilon)
            return y.astype(self.dtype)

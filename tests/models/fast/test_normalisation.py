import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax.models.fast.normalisation import normalise
from mae_jax.models.layers import LayerNorm


def plain(x, scale_D, bias_D, epsilon):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    row = [1] * (x.ndim - 1) + [-1]
    return (x - mean) / jnp.sqrt(variance + epsilon) * scale_D.reshape(row) + bias_D.reshape(row)


@pytest.mark.parametrize("shape", [(3, 5, 8), (6, 8)])
def test_values_and_gradients_are_those_of_the_formula(shape):
    keys = jax.random.split(jax.random.key(0), 4)
    x = 3 + 2 * jax.random.normal(keys[0], shape)
    scale_D, bias_D = (jax.random.normal(key, shape[-1:]) for key in keys[1:3])
    weights = jax.random.normal(keys[3], shape)

    def of(function):
        def total(*arguments):
            return (weights * function(*arguments, 1e-6)).sum()

        return function(x, scale_D, bias_D, 1e-6), jax.grad(total, argnums=(0, 1, 2))(
            x, scale_D, bias_D
        )

    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6),
        of(normalise),
        of(plain),
    )


def test_a_constant_token_has_a_finite_gradient():
    gradient = jax.grad(lambda x: normalise(x, jnp.ones(4), jnp.zeros(4), 1e-6)[0].sum())
    assert np.isfinite(gradient(jnp.full((2, 4), 7.0))).all()


@pytest.mark.parametrize("dtype, off", [("float32", 1e-6), ("bfloat16", 2e-2)])
def test_the_layer_gives_its_dtype_and_flax_s_numbers(dtype, off):
    x = jax.random.normal(jax.random.key(1), (2, 3, 16)).astype(dtype)
    ours = LayerNorm(16, dtype=dtype, rngs=nnx.Rngs(0))
    theirs = nnx.LayerNorm(16, epsilon=1e-6, dtype=jnp.float32, rngs=nnx.Rngs(0))
    y = ours(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.astype(jnp.float32), theirs(x.astype(jnp.float32)), atol=off)

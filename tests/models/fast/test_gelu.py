"""GELU against erf and its derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mae_jax.models.fast.gelu import gelu

EVERYWHERE = np.concatenate([np.linspace(-8, 8, 4001), [-1e4, -100, -12, 12, 100, 1e4]])


def exact(x):
    return x * 0.5 * (1 + jax.lax.erf(x / 2**0.5))


@pytest.mark.parametrize(("dtype", "step"), [(jnp.float32, 1e-6), (jnp.bfloat16, 2**-7)])
def test_gelu_is_exact_to_half_a_step_of_the_format(dtype, step):
    x = jnp.asarray(EVERYWHERE, dtype)
    expected = exact(x.astype(jnp.float32))
    error = jnp.abs(gelu(x).astype(jnp.float32) - expected)
    assert (error <= 6e-5 + 0.5 * step * jnp.abs(expected)).all()

    derivative = jax.vmap(jax.grad(exact))(x.astype(jnp.float32))
    found = jax.vmap(jax.grad(gelu))(x).astype(jnp.float32)
    np.testing.assert_allclose(found, derivative, atol=6e-4 if step > 1e-5 else 1e-6, rtol=step)

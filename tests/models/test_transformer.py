"""Parts of blocks that other tests only see as a whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax.models import transformer

EVERYWHERE = np.concatenate([np.linspace(-8, 8, 4001), [-1e4, -100, -12, 12, 100, 1e4]])


def exact(x):
    return x * 0.5 * (1 + jax.lax.erf(x / 2**0.5))


@pytest.mark.parametrize(("dtype", "step"), [(jnp.float32, 1e-6), (jnp.bfloat16, 2**-7)])
def test_gelu_is_exact_to_half_a_step_of_the_format(dtype, step):
    x = jnp.asarray(EVERYWHERE, dtype)
    expected = exact(x.astype(jnp.float32))
    error = jnp.abs(transformer.gelu(x).astype(jnp.float32) - expected)
    assert (error <= 6e-5 + 0.5 * step * jnp.abs(expected)).all()

    derivative = jax.vmap(jax.grad(exact))(x.astype(jnp.float32))
    found = jax.vmap(jax.grad(transformer.gelu))(x).astype(jnp.float32)
    np.testing.assert_allclose(found, derivative, atol=6e-4 if step > 1e-5 else 1e-6, rtol=step)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("attention", ["plain", "grouped", "packed"])
def test_only_what_is_asked_for_comes_out_of_the_last_block(scan, remat, attention):
    blocks = transformer.blocks(128, 2, 3, attention=attention, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 7, 128))

    def outcome(queries):
        graphdef, state = nnx.split(blocks)

        def first_ones(state, x):
            stack = nnx.merge(graphdef, state)
            y = transformer.apply_blocks(stack, x, scan=scan, remat=remat, queries=queries)
            return jnp.sin(y[:, :4]).sum(), y[:, :4]

        return jax.value_and_grad(first_ones, (0, 1), has_aux=True)(state, x)

    assert outcome(4)[0][1].shape == (2, 4, 128)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        outcome(4),
        outcome(None),
    )

"""Attention for CPUs, against the plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax.models import transformer
from mae_jax.models.fast import packed, products, ways


def plain(q, k, v):
    return products.mix(jax.nn.softmax(products.scores(q, k)), v)


@pytest.mark.parametrize("scale", [1, 45])
def test_values_and_gradients(scale):
    """Also with scores of hundreds, whose exponentials would overflow."""
    rng = np.random.default_rng(0)
    q, k, v, ct = (jnp.asarray(rng.standard_normal((4, 2, 7, 5)), jnp.float32) for _ in "qkvc")
    expected, expected_gradient = jax.vjp(plain, scale * q, k, v)
    found, gradient = jax.vjp(packed.attend, scale * q, k, v)
    pairs = zip((found, *gradient(ct)), (expected, *expected_gradient(ct)), strict=True)
    for a, b in pairs:
        # Of the largest number: gradients are differences of numbers of that size.
        np.testing.assert_allclose(a, b, atol=1e-6 * scale * float(jnp.abs(b).max()))


@pytest.mark.parametrize("queries", [None, 5])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_block_is_the_plain_one(dtype, queries):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 32)), dtype)
    outputs, products_made = [], []
    for way in (ways.PLAIN, ways.Packed()):
        block = transformer.Block(32, 4, dtype=dtype, rngs=nnx.Rngs(0))
        graphdef, state = nnx.split(block)

        def loss(state, x, graphdef=graphdef, attend=way.attend):
            made = nnx.merge(graphdef, state)(x, attend=attend, queries=queries)
            return (made.astype(jnp.float32) ** 2).mean()

        products_made.append(str(jax.make_jaxpr(loss)(state, x)).count("dot_general"))
        outputs.append(jax.value_and_grad(loss)(state, x))
    assert products_made[0] - products_made[1] == (2 if queries is None else 1)
    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
    for a, b in zip(*map(jax.tree.leaves, outputs), strict=True):
        np.testing.assert_allclose(
            np.asarray(a, np.float32), np.asarray(b, np.float32), atol=tolerance
        )

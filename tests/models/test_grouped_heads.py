import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax.models import grouped_heads, transformer


@pytest.mark.parametrize(("width", "heads"), [(128, 1), (128, 2), (256, 8)])
def test_groups_are_attention(width, heads):
    plain = transformer.Attention(width, heads, dtype=jnp.float32, rngs=nnx.Rngs(0))
    grouped = transformer.Attention(
        width, heads, attention="grouped", dtype=jnp.float32, rngs=nnx.Rngs(0)
    )
    assert grouped_heads.fits(width, heads)
    x = jax.random.normal(jax.random.key(1), (3, 7, width)) * 3
    weight = jax.random.normal(jax.random.key(2), x.shape)

    def outcome(attention):
        graphdef, state = nnx.split(attention)
        return jax.value_and_grad(lambda s, x: (nnx.merge(graphdef, s)(x) * weight).sum(), (0, 1))(
            state, x
        )

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
        outcome(plain),
        outcome(grouped),
    )


def test_large_scores_do_not_overflow():
    attention = transformer.Attention(
        128, 2, attention="grouped", dtype=jnp.float32, rngs=nnx.Rngs(0)
    )
    x = jax.random.normal(jax.random.key(1), (1, 5, 128)) * 1e3
    assert bool(jnp.isfinite(attention(x)).all())


@pytest.mark.parametrize(("width", "heads"), [(192, 3), (1280, 16), (64, 2), (512, 2)])
def test_heads_that_fill_no_register_go_alone(width, heads):
    assert not grouped_heads.fits(width, heads)
    if width < 200:
        attention = transformer.Attention(
            width, heads, attention="grouped", dtype=jnp.float32, rngs=nnx.Rngs(0)
        )
        assert attention(jnp.ones((1, 3, width))).shape == (1, 3, width)

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


@pytest.mark.parametrize(
    ("tokens", "first"), [(5, True), (50, True), (65, True), (8, False), (197, False), (257, False)]
)
def test_tokens_come_first_where_they_fill_no_rows(tokens, first):
    assert grouped_heads.tokens_first(tokens) == first


@pytest.mark.parametrize("tokens", [5, 8])
@pytest.mark.parametrize("scan", [True, False])
def test_blocks_with_groups_are_blocks(tokens, scan):
    common = dict(dtype=jnp.float32)
    plain = transformer.blocks(128, 2, 2, rngs=nnx.Rngs(0), **common)
    grouped = transformer.blocks(128, 2, 2, attention="grouped", rngs=nnx.Rngs(0), **common)
    x = jax.random.normal(jax.random.key(1), (3, tokens, 128))
    scales = jnp.arange(12, dtype=jnp.float32).reshape(3, 2, 2)

    def outcome(stack):
        graphdef, state = nnx.split(stack)

        def total(state, x):
            y = transformer.apply_blocks(nnx.merge(graphdef, state), x, scan=scan, scales=scales)
            return jnp.sin(y).sum(), y

        return jax.grad(total, (0, 1), has_aux=True)(state, x)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3),
        outcome(plain),
        outcome(grouped),
    )

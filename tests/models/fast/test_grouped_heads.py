import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax.models import grouped_heads, transformer
from mae_jax.models.mae import MaskedAutoencoder


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


def test_samples_that_share_a_row_do_not_see_each_other():
    attention = transformer.Attention(
        128, 4, attention="grouped", dtype=jnp.float32, rngs=nnx.Rngs(0)
    )
    x = jax.random.normal(jax.random.key(1), (6, 5, 128)) * 3
    x = x.at[1].multiply(1e3)  # whose scores would drown all others

    def outcome(samples):
        graphdef, state = nnx.split(attention)

        def run(state, x):
            rows = x.reshape(6 // samples, samples * 5, 128)
            y = nnx.merge(graphdef, state)(rows, samples=samples).reshape(x.shape)
            return jnp.sin(y).sum(), y

        return jax.value_and_grad(run, (0, 1), has_aux=True)(state, x)

    for samples in (2, 3, 6):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
            outcome(1),
            outcome(samples),
        )


@pytest.mark.parametrize(
    ("samples", "tokens", "shared"),
    [(32, 50, 2), (31, 50, 1), (32, 197, 1), (32, 65, 1), (32, 26, 4), (6, 17, 6), (1, 5, 1)],
)
def test_samples_share_a_row_as_far_as_lanes_go(samples, tokens, shared):
    assert grouped_heads.samples_in_a_row(samples, tokens) == shared


@pytest.mark.parametrize("mask_tokens", [False, True])
def test_the_loss_is_the_same_whoever_shares_a_row(mask_tokens):
    model = MaskedAutoencoder(
        image_size=32, patch_size=8, width=128, depth=2, heads=4, decoder_width=128,
        decoder_depth=2, decoder_heads=2, attention="grouped",
        mask_tokens_in_encoder=mask_tokens, rngs=nnx.Rngs(0),
    )  # fmt: skip
    images = jax.random.normal(jax.random.key(0), (8, 32, 32, 3))
    noise = jax.random.uniform(jax.random.key(1), (8, 16))
    graphdef, state, tables = nnx.split(model, nnx.Param, ...)

    def outcome(shards):
        return jax.value_and_grad(
            lambda s: nnx.merge(graphdef, s, tables).loss(images, noise=noise, shards=shards)
        )(state)

    alone = outcome(None)
    for shards in (1, 4):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            alone,
            outcome(shards),
        )

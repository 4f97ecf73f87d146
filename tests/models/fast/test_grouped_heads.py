import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax.models.attention import Attention
from mae_jax.models.fast import grouped_heads, ways
from mae_jax.models.mae import MaskedAutoencoder

GROUPED = ways.Grouped()


def made(width, heads):
    return Attention(width, heads, dtype=jnp.float32, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(("width", "heads"), [(128, 1), (128, 2), (256, 8)])
def test_groups_are_attention(width, heads):
    graphdef, state = nnx.split(made(width, heads))
    assert grouped_heads.fits(width, heads)
    x = jax.random.normal(jax.random.key(1), (3, 7, width)) * 3
    weight = jax.random.normal(jax.random.key(2), x.shape)

    def outcome(way):
        def total(state, x):
            return (nnx.merge(graphdef, state)(x, attend=way.attend) * weight).sum()

        return jax.value_and_grad(total, (0, 1))(state, x)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
        outcome(ways.PLAIN),
        outcome(GROUPED),
    )


def test_large_scores_do_not_overflow():
    x = jax.random.normal(jax.random.key(1), (1, 5, 128)) * 1e3
    assert bool(jnp.isfinite(made(128, 2)(x, attend=GROUPED.attend)).all())


@pytest.mark.parametrize(("width", "heads"), [(192, 3), (1280, 16), (64, 2), (512, 2)])
def test_heads_that_fill_no_register_go_alone(width, heads):
    assert not grouped_heads.fits(width, heads)
    if width < 200:
        attention, x = made(width, heads), jax.random.normal(jax.random.key(1), (4, 3, width))
        rows, attend = ways.Grouped(shards=1).arrange(x, heads)
        assert rows is x
        np.testing.assert_array_equal(attention(x, attend=attend), attention(x))


def test_samples_that_share_a_row_do_not_see_each_other():
    graphdef, state = nnx.split(made(128, 4))
    x = jax.random.normal(jax.random.key(1), (6, 5, 128)) * 3
    x = x.at[1].multiply(1e3)  # whose scores would drown all others

    def outcome(shards):
        def run(state, x):
            rows, attend = ways.Grouped(shards).arrange(x, 4)
            assert len(rows) == (shards or 6)
            y = nnx.merge(graphdef, state)(rows, attend=attend).reshape(x.shape)
            return jnp.sin(y).sum(), y

        return jax.value_and_grad(run, (0, 1), has_aux=True)(state, x)

    for shards in (1, 2, 3):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
            outcome(None),
            outcome(shards),
        )


@pytest.mark.parametrize(
    ("samples", "tokens", "shared"),
    [(32, 50, 2), (31, 50, 1), (32, 197, 1), (32, 65, 1), (32, 26, 4), (6, 17, 6), (1, 5, 1)],
)
def test_samples_share_a_row_as_far_as_lanes_go(samples, tokens, shared):
    assert grouped_heads.samples_in_a_row(samples, tokens) == shared
    x = jnp.zeros((2 * samples, tokens, 128))
    assert len(ways.Grouped(shards=2).arrange(x, 2)[0]) == 2 * samples // shared


def test_a_batch_that_shards_do_not_divide_is_left_as_it_is():
    x = jnp.zeros((11, 5, 128))
    assert ways.Grouped(shards=4).arrange(x, 2)[0] is x


@pytest.mark.parametrize("mask_tokens", [False, True])
def test_the_loss_is_the_same_whoever_shares_a_row(mask_tokens):
    model = MaskedAutoencoder(
        image_size=32, patch_size=8, width=128, depth=2, heads=4, decoder_width=128,
        decoder_depth=2, decoder_heads=2, attention="grouped",
        mask_tokens_in_encoder=mask_tokens, rngs=nnx.Rngs(0),
    )  # fmt: skip
    images = jax.random.normal(jax.random.key(0), (8, 32, 32, 3))
    noise = jax.random.uniform(jax.random.key(1), (8, 16))

    def outcome(way):
        model.encoder.way = way
        graphdef, state, tables = nnx.split(model, nnx.Param, ...)
        return jax.jit(
            jax.value_and_grad(lambda s: nnx.merge(graphdef, s, tables).loss(images, noise=noise))
        )(state)

    alone = outcome(ways.Grouped())
    for shards in (1, 4):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            alone,
            outcome(ways.Grouped(shards)),
        )

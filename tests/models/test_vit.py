import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax import VisionTransformer

SMALL = dict(image_size=(8, 16), patch_size=4, channels=1, width=16, depth=2, heads=2)


@pytest.mark.parametrize(
    ("size", "count"), [("base", 86_567_656), ("large", 304_326_632), ("huge", 632_045_800)]
)
def test_published_parameter_counts(size, count):
    model = nnx.eval_shape(lambda: VisionTransformer(size, classes=1000, rngs=nnx.Rngs(0)))
    assert sum(int(np.prod(x.shape)) for x in jax.tree.leaves(nnx.state(model))) == count


def test_mean_pool_averages_patch_tokens_only():
    model = VisionTransformer(classes=3, **SMALL, rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (2, 8, 16, 1))
    tokens = model.encoder(images)
    assert tokens.shape == (2, 1 + 8, 16) and model.encoder.norm is None
    np.testing.assert_allclose(
        model.features(images), model.fc_norm(tokens[:, 1:].mean(1)), rtol=1e-6
    )
    assert model(images).shape == (2, 3)


def test_token_pool_reads_the_class_token_through_the_norm():
    model = VisionTransformer(classes=3, pool="token", **SMALL, rngs=nnx.Rngs(0))
    images = jnp.ones((2, 8, 16, 1))
    np.testing.assert_array_equal(model.features(images), model.encoder(images)[:, 0])
    assert model.fc_norm is None


def test_positions_are_trained():
    model = VisionTransformer(classes=3, **SMALL, rngs=nnx.Rngs(0))
    assert isinstance(model.encoder.pos_embed, nnx.Param)


def test_first_logits_are_all_but_equal():
    model = VisionTransformer(classes=3, **SMALL, rngs=nnx.Rngs(0))
    assert float(jnp.abs(model(jnp.ones((2, 8, 16, 1)))).max()) < 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(pool="max"), "pool 'max' is unknown"),
        (dict(pool="token", class_token=False), "needs a model with class_token"),
    ],
)
def test_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        VisionTransformer(classes=3, **SMALL | changes, rngs=nnx.Rngs(0))

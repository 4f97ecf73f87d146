import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax import VisionTransformer
from mae_jax.models import patches, transformer

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


def test_drop_path_keeps_the_expectation_and_is_per_sample_and_branch():
    scales = np.asarray(transformer.drop_path_scales(jax.random.key(0), 4000, 5, 0.4))
    assert scales.shape == (4000, 5, 2)
    np.testing.assert_allclose(scales.mean((0, 2)), 1, atol=0.03)
    dropped = (scales == 0).mean(0)
    np.testing.assert_allclose(dropped, np.linspace(0, 0.4, 5)[:, None].repeat(2, 1), atol=0.03)
    kept = scales[:, 4][scales[:, 4] > 0]
    np.testing.assert_allclose(kept, 1 / 0.6, rtol=1e-6)
    assert not np.array_equal(scales[:, 4, 0], scales[:, 4, 1])
    assert abs(np.corrcoef(scales[:, 4, 0], scales[:, 4, 1])[0, 1]) < 0.05


@pytest.mark.parametrize("scan", [False, True])
def test_a_dropped_sample_leaves_the_others_alone(scan):
    model = VisionTransformer(classes=3, scan=scan, **SMALL, rngs=nnx.Rngs(0))
    model.head.kernel.set_value(jax.random.normal(jax.random.key(2), model.head.kernel.shape))
    images = jax.random.normal(jax.random.key(1), (2, 8, 16, 1))
    ones = jnp.ones((2, 2, 2))
    np.testing.assert_allclose(model(images, ones), model(images), atol=1e-6)
    dropped = np.asarray(model(images, ones.at[1].set(0.0)))
    np.testing.assert_allclose(dropped[0], model(images)[0], atol=1e-6)
    assert not np.allclose(dropped[1], model(images)[1], atol=1e-3)
    # With every branch dropped only what was embedded is left.
    cut = patches.patchify(images, model.dimensions.patch_size)
    embedded = model.encoder.embed(cut)[:, 1:].mean(1)
    np.testing.assert_allclose(dropped[1], model.head(model.fc_norm(embedded))[1], atol=1e-5)


@pytest.mark.parametrize("scan", [False, True])
def test_frozen_blocks_get_no_gradient(scan):
    model = VisionTransformer(classes=3, frozen=1, scan=scan, **SMALL, rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(1), (2, 8, 16, 1))
    plain = VisionTransformer(classes=3, scan=scan, **SMALL, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(model(images), plain(images), atol=1e-7)

    def loss(model):
        return jnp.square(model.features(images)[:, 0]).sum()

    gradient = nnx.to_pure_dict(nnx.grad(loss)(model))["encoder"]
    largest = {i: max(abs(x).max() for x in jax.tree.leaves(gradient["blocks"][i])) for i in (0, 1)}
    assert largest[0] == 0 and largest[1] > 0
    assert not np.asarray(gradient["pos_embed"]).any()


def test_batch_norm_of_a_probe_follows_the_images_it_trains_on():
    arguments = dict(classes=3, pool="token", normalise_head=True)
    model = VisionTransformer(**arguments, **SMALL, rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (6, 8, 16, 1))
    features = np.asarray(model.features(images))
    mean, variance = features.mean(0), features.var(0)
    expected = model.head((features - mean) / np.sqrt(variance + 1e-6))
    np.testing.assert_allclose(model(images, train=True), expected, atol=1e-5)
    np.testing.assert_allclose(model.head_norm.mean[...], 0.1 * mean, atol=1e-6)
    unbiased = features.var(0, ddof=1)
    np.testing.assert_allclose(model.head_norm.var[...], 0.9 + 0.1 * unbiased, rtol=1e-6)
    before = np.asarray(model.head_norm.mean[...])
    model(images)
    np.testing.assert_array_equal(model.head_norm.mean[...], before)


def test_the_head_of_a_classifier_starts_small():
    model = VisionTransformer(classes=2000, **SMALL, rngs=nnx.Rngs(0))
    deviation = float(model.head.kernel[...].std())
    assert deviation == pytest.approx(2e-5, rel=0.02)  # of 32,000 values


@pytest.mark.parametrize("scan", [False, True])
def test_layers_are_what_a_shorter_encoder_gives(scan):
    arguments = SMALL | {"depth": 4}
    model = VisionTransformer(classes=3, pool="token", scan=scan, **arguments, rngs=nnx.Rngs(0))
    encoder = model.encoder
    encoder.norm.scale.set_value(jnp.linspace(0.5, 2, 16))
    images = jax.random.normal(jax.random.key(0), (2, 8, 16, 1))
    last, second, first = encoder.layers(images, (4, 2, 1))
    np.testing.assert_allclose(last, encoder(images), atol=1e-5)
    tokens = encoder.embed(patches.patchify(images, model.dimensions.patch_size))
    tokens = encoder.blocks[0](tokens)
    np.testing.assert_allclose(first, encoder.norm(tokens), atol=1e-5)
    np.testing.assert_allclose(second, encoder.norm(encoder.blocks[1](tokens)), atol=1e-5)
    for number in (0, 5):
        with pytest.raises(ValueError, match="there are blocks 1 to 4"):
            encoder.layers(images, (1, number))

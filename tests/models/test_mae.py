import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax import MaskedAutoencoder, VisionTransformer
from mae_jax.models import patches

ODD = dict(
    image_size=(48, 64), patch_size=8, channels=5, width=60, depth=2, heads=5,
    decoder_width=24, decoder_depth=1, decoder_heads=3,
)  # fmt: skip


def build(**changes):
    return MaskedAutoencoder(**ODD | changes, rngs=nnx.Rngs(0))


def images(count=2):
    return jnp.asarray(np.random.default_rng(0).normal(size=(count, 48, 64, 5)), jnp.float32)


def parameters(module) -> int:
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(nnx.state(module)))


@pytest.mark.parametrize(
    ("size", "encoder", "full"),
    [
        ("base", 85_798_656, 111_907_840),
        ("large", 303_301_632, 329_541_888),
        ("huge", 630_764_800, 657_074_508),
    ],
)
def test_published_parameter_counts(size, encoder, full):
    model = nnx.eval_shape(lambda: MaskedAutoencoder(size, rngs=nnx.Rngs(0)))
    assert parameters(model.encoder) == encoder
    assert parameters(model) == full


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_small_sizes_have_a_lighter_decoder(size):
    model = nnx.eval_shape(lambda: MaskedAutoencoder(size, rngs=nnx.Rngs(0)))
    assert parameters(model.decoder) < parameters(model.encoder) / 4


def test_shapes_of_an_odd_model():
    output = build()(images(), key=jax.random.key(0))
    assert output.pred.shape == (2, 48, 8 * 8 * 5)
    assert output.mask.shape == (2, 48)
    assert output.latent.shape == (2, 1 + 12, 60)
    assert output.loss.shape == () and np.isfinite(output.loss)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.97])
def test_mask_ratio_of_a_call(ratio):
    output = build()(images(), mask_ratio=ratio, key=jax.random.key(0))
    assert output.latent.shape[1] == 1 + int(48 * (1 - ratio))


def test_without_class_token():
    model = build(class_token=False)
    output = model(images(), key=jax.random.key(0))
    assert output.latent.shape == (2, 12, 60)
    assert model.encoder.pos_embed.shape == (1, 48, 60)


def test_scanned_equals_unrolled():
    one, other = build(scan=True), build(scan=False)
    a, b = (m(images(), key=jax.random.key(0)) for m in (one, other))
    np.testing.assert_allclose(a.pred, b.pred, atol=1e-5)


def test_hidden_pixels_do_not_reach_the_encoder():
    model, noise = build(), jax.random.uniform(jax.random.key(0), (2, 48))
    output = model(images(), noise=noise)
    cut = patches.patchify(images(), (8, 8))
    changed = jnp.where(output.mask[..., None] > 0, cut + 3.0, cut)
    again = model(patches.unpatchify(changed, (6, 8), (8, 8)), noise=noise)
    np.testing.assert_array_equal(output.pred, again.pred)


def test_visible_patches_do_not_count_in_the_loss():
    model, noise = build(norm_pix=False), jax.random.uniform(jax.random.key(0), (2, 48))
    output = model(images(), noise=noise)
    errors = model.patch_errors(images(), output.pred)
    expected = np.asarray(errors)[np.asarray(output.mask) > 0].mean()
    np.testing.assert_allclose(output.loss, expected, rtol=1e-5)


def test_mask_tokens_in_the_encoder_see_all_positions():
    model = build(mask_tokens_in_encoder=True)
    output = model(images(), key=jax.random.key(0))
    assert output.latent.shape == (2, 1 + 48, 60)
    assert model.decoder.mask_token is None
    gradient = nnx.grad(lambda m: m(images(), key=jax.random.key(0)).loss)(model)
    assert float(jnp.abs(gradient.encoder.mask_token[...]).max()) > 0


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
    exact, short = build(), build(dtype="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(nnx.state(short))} == {jnp.dtype("float32")}
    a, b = (m(images(), key=jax.random.key(0)) for m in (exact, short))
    assert b.latent.dtype == jnp.bfloat16 and b.pred.dtype == b.loss.dtype == jnp.float32
    np.testing.assert_allclose(a.loss, b.loss, rtol=2e-2)
    np.testing.assert_array_equal(a.mask, b.mask)


def test_predicted_images_paste_visible_patches_back():
    model = build()
    output = model(images(), key=jax.random.key(0))
    cut, filled = (
        patches.patchify(x, (8, 8)) for x in (images(), model.predicted_images(images(), output))
    )
    visible = np.asarray(output.mask) == 0
    np.testing.assert_array_equal(np.asarray(filled)[visible], np.asarray(cut)[visible])


def test_norm_pix_is_undone_with_each_patchs_own_moments():
    model = build()
    output = model(images(), key=jax.random.key(0))
    truth = patches.patchify(images(), (8, 8))
    mean, deviation = patches.moments(truth)
    perfect = output._replace(pred=(truth - mean) / deviation)
    np.testing.assert_allclose(model.predicted_images(images(), perfect), images(), atol=1e-5)
    assert float(model.patch_errors(images(), perfect.pred).max()) < 1e-10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(size="giant"), "model size 'giant' is unknown"),
        (dict(image_size=(50, 64)), "image_size 50 is not divisible by patch_size 8"),
        (dict(heads=7), "width 60 is not divisible by heads 7"),
        (dict(width=54, heads=3), "width 54 is not divisible by 4"),
        (dict(decoder_heads=5), "decoder_width 24 is not divisible by decoder_heads 5"),
        (dict(mask_ratio=0.99), "mask_ratio 0.99 must leave"),
        (dict(mask_ratio=0.0), "mask_ratio 0.0 must leave"),
        (dict(sampling="spiral"), "sampling 'spiral' is unknown"),
        (dict(depth=0), "depth 0 must be at least 1"),
    ],
)
def test_dimensions_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_calls_that_do_not_fit():
    model, key = build(), jax.random.key(0)
    with pytest.raises(ValueError, match="either a key or noise"):
        model(images())
    with pytest.raises(ValueError, match="either a key or noise"):
        model(images(), key=key, noise=jnp.zeros((2, 48)))
    with pytest.raises(ValueError, match=r"noise of shape \(2, 47\)"):
        model(images(), noise=jnp.zeros((2, 47)))
    with pytest.raises(
        ValueError,
        match=r"images of shape \(2, 64, 48, 5\)",
    ):
        model(jnp.zeros((2, 64, 48, 5)), key=key)
    with pytest.raises(ValueError, match="mask_ratio 1.0"):
        model(images(), mask_ratio=1.0, key=key)


@pytest.mark.parametrize("shape", [(2, 64, 48, 5), (2, 48, 64, 3), (48, 64, 5)])
def test_pictures_that_do_not_fit_are_refused_wherever_they_enter(shape):
    model, pictures = build(), jnp.zeros(shape)
    output = model(images(), key=jax.random.key(0))
    classifier = VisionTransformer(
        classes=2, **{k: v for k, v in ODD.items() if "decoder" not in k}, rngs=nnx.Rngs(0)
    )
    for enter in (
        model.encoder,
        model.encoder.attention,
        lambda x: model(x, key=jax.random.key(0)),
        lambda x: model.loss(x, noise=jnp.zeros((len(x), 48))),
        lambda x: model.patch_errors(x, output.pred),
        lambda x: model.predicted_images(x, output),
        classifier,
        classifier.features,
    ):
        with pytest.raises(ValueError, match=r"do not fit the model; it takes \(B, 48, 64, 5\)"):
            enter(pictures)

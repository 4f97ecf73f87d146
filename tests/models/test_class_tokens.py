"""Several class tokens: where they stand, what is read of them, who takes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mae_jax
from mae_jax import VisionTransformer
from mae_jax.errors import UsageError
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.weights import described, export, model

ENCODER = dict(image_size=8, patch_size=2, width=16, depth=1, heads=2)
DECODER = dict(decoder_width=8, decoder_depth=1, decoder_heads=2)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
NOISE = jnp.asarray(np.random.default_rng(1).random((2, 16)), jnp.float32)


def build(count, **changes):
    return MaskedAutoencoder(**ENCODER, **DECODER, class_token=count, rngs=nnx.Rngs(0), **changes)


def weights_of(count):
    built = build(count)
    said = dict(heads=2, decoder_heads=2, norm_pix=True, image_size=8)
    return described.describe(model.tensors(built), said, {}, "x")


def test_only_the_tokens_and_their_positions_are_other():
    one, three = (nnx.to_pure_dict(nnx.state(build(count))) for count in (1, 3))
    leaves = map(jax.tree_util.tree_leaves_with_path, (one, three))
    other = {
        jax.tree_util.keystr(path, simple=True, separator=".")
        for (path, a), (_, b) in zip(*leaves, strict=True)
        if a.shape != b.shape or (a != b).any()
    }
    assert other == {"encoder.cls_token", "encoder.pos_embed", "decoder.pos_embed"}
    assert three["encoder"]["cls_token"].shape == (1, 3, 16)
    for part in ("encoder", "decoder"):
        before, after = one[part]["pos_embed"], three[part]["pos_embed"]
        assert (after[:, :3] == 0).all() and (after[:, 3:] == before[:, 1:]).all()


@pytest.mark.parametrize("mask_tokens", [False, True])
def test_every_token_goes_through_encoder_and_decoder(mask_tokens):
    built = build(3, mask_tokens_in_encoder=mask_tokens)
    output = built(IMAGES, noise=NOISE)
    assert output.latent.shape == (2, 3 + (16 if mask_tokens else 4), 16)
    assert output.pred.shape == (2, 16, 12)
    # Fewer of the decoder's tokens come out, and in another order, where only the loss is wanted.
    np.testing.assert_allclose(built.loss(IMAGES, noise=NOISE), output.loss, rtol=1e-5)
    # Their positions are the same, so that their order does not matter; each of them does.
    tokens = built.encoder.cls_token[...]
    built.encoder.cls_token[...] = tokens[:, ::-1]
    np.testing.assert_allclose(built(IMAGES, noise=NOISE).pred, output.pred, atol=1e-5)
    for number in range(3):
        # In some places: what is added in all of them is taken away by a norm.
        built.encoder.cls_token[...] = tokens.at[:, number, ::2].add(3.0)
        assert float(jnp.abs(built(IMAGES, noise=NOISE).pred - output.pred).max()) > 1e-3


def test_what_is_read_of_several_is_their_mean():
    built = build(3)
    x_BND = built.encoder(IMAGES)
    expected = np.asarray(x_BND)[:, :3].mean(1)
    np.testing.assert_allclose(built.encoder.class_features(x_BND), expected, atol=1e-6)
    classifier = VisionTransformer(
        **ENCODER, classes=2, pool="token", class_token=3, rngs=nnx.Rngs(0)
    )
    np.testing.assert_allclose(
        classifier.features(IMAGES), classifier.encoder(IMAGES)[:, :3].mean(1), atol=1e-6
    )
    mean = VisionTransformer(**ENCODER, classes=2, class_token=3, rngs=nnx.Rngs(0))
    patches = mean.encoder(IMAGES)[:, 3:].mean(1)
    np.testing.assert_allclose(mean.features(IMAGES), mean.fc_norm(patches), atol=1e-6)


def test_files_keep_them(tmp_path):
    weights = weights_of(3)
    assert weights.class_tokens == 3 and weights_of(1).class_tokens == 1
    export.export(weights, tmp_path / "out", format="npz", force=True)
    assert mae_jax.load(tmp_path / "out").encoder.cls_token.shape == (1, 3, 16)
    encoder = mae_jax.load_encoder(tmp_path / "out", image_size=12)
    table = encoder.encoder.pos_embed[...]
    assert table.shape == (1, 3 + 36, 16) and (table[:, :3] == 0).all()
    images = np.zeros((1, 12, 12, 3), np.uint8)
    tokens = encoder.encoder(encoder.weights.pixels.standardise(jnp.asarray(images)))
    for output, expected in {
        "token": tokens[:, :3].mean(1), "mean": tokens[:, 3:].mean(1), "patches": tokens[:, 3:],
    }.items():  # fmt: skip
        np.testing.assert_allclose(encoder(images, output), expected, atol=1e-5)
    assert encoder.attention(images).shape == (1, 2, 36)


@pytest.mark.parametrize("format", ["huggingface", "timm"])
def test_libraries_with_one_refuse_several(tmp_path, format):
    with pytest.raises(UsageError, match="has one class token, and these weights have 3"):
        export.export(weights_of(3), tmp_path / "out", format=format, part="encoder", force=True)
    assert not any(tmp_path.iterdir())

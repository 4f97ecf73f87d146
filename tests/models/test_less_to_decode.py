"""A loss on a share of the hidden patches, and a decoder in which they do not see each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax.models import attention, masking, patches
from mae_jax.models.fast import ways
from mae_jax.models.mae import MaskedAutoencoder

SMALL = dict(
    image_size=(16, 24), patch_size=4, channels=2, width=16, depth=2, heads=2,
    decoder_width=16, decoder_depth=2, decoder_heads=2,
)  # fmt: skip
IMAGES = jax.random.normal(jax.random.key(0), (3, 16, 24, 2))
NOISE = jax.random.uniform(jax.random.key(1), (3, 24))


def build(**changes):
    model = MaskedAutoencoder(**SMALL | changes, rngs=nnx.Rngs(0))
    # The mask token is small at first, and all that tells hidden patches apart their positions.
    model.decoder.mask_token[...] = jax.random.normal(jax.random.key(2), (1, 1, 16))
    return model


@pytest.mark.parametrize("sampling", masking.SAMPLINGS)
def test_a_share_is_random_and_leaves_the_masks_as_they_are(sampling):
    noise = masking.draw(sampling, jax.random.key(0), 400, (4, 4))
    shuffled = masking.shuffle_hidden(noise, jax.random.key(1), 4)
    before, after = masking.from_noise(noise, 4), masking.from_noise(shuffled, 4)
    np.testing.assert_array_equal(before.mask_BN, after.mask_BN)
    np.testing.assert_array_equal(before.keep_BK, after.keep_BK)
    first = np.zeros((400, 16))
    np.put_along_axis(first, np.asarray(after.hide_BM[:, :6]), 1, axis=1)
    often = first.sum(0) / np.maximum(np.asarray(before.mask_BN).sum(0), 1)
    hidden = np.asarray(before.mask_BN).sum(0) > 50
    assert hidden.sum() >= 12 and (abs(often[hidden] - 0.5) < 0.2).all()


@pytest.mark.parametrize(
    ("hidden", "ratio", "count"), [(147, 0.5, 74), (147, 1 / 3, 49), (3, 0.1, 1)]
)
def test_how_many_are_decoded(hidden, ratio, count):
    assert masking.decoded_patches(hidden, ratio) == count


def test_the_loss_is_of_the_first_share_alone():
    whole, half = build(), build(decode_ratio=0.5)
    masks = whole.draw_masks(IMAGES, mask_ratio=0.75, noise=NOISE)
    fewer = masks._replace(hide_BM=masks.hide_BM[:, :9])
    latent = whole.encode(IMAGES, masks)
    pred = whole.decoder(latent, fewer, hidden=True)
    true = whole.target(_patches(IMAGES, fewer.hide_BM))
    np.testing.assert_allclose(
        half.loss(IMAGES, noise=NOISE), jnp.square(pred - true).mean(), rtol=1e-6
    )
    # What a call gives, and all evaluation, is of all hidden patches.
    one, other = whole(IMAGES, noise=NOISE), half(IMAGES, noise=NOISE)
    np.testing.assert_array_equal(one.pred, other.pred)
    np.testing.assert_array_equal(one.loss, other.loss)
    np.testing.assert_allclose(one.loss, whole.loss(IMAGES, noise=NOISE), rtol=1e-6)


def _patches(images, which):
    return patches.take(patches.patchify(images, (4, 4)), which)


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_crossed_patches_are_predicted_alike_however_many(scan, tokens):
    model = build(decoder_attention="cross", scan=scan, class_token=tokens)
    output = model(IMAGES, noise=NOISE)
    masks = model.draw_masks(IMAGES, mask_ratio=0.75, noise=NOISE)
    for count in (1, 18):
        few = masks._replace(hide_BM=masks.hide_BM[:, :count])
        pred = model.decoder(output.latent, few, hidden=True)
        expected = np.take_along_axis(output.pred, np.asarray(few.hide_BM)[..., None], 1)
        np.testing.assert_allclose(pred, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(output.loss, model.loss(IMAGES, noise=NOISE), rtol=1e-5)


def test_crossed_patches_look_at_the_visible_ones():
    model = build(decoder_attention="cross")
    masks = model.draw_masks(IMAGES, mask_ratio=0.75, noise=NOISE)
    latent = model.encode(IMAGES, masks)
    pred = model.decode(latent, masks)
    other = model.decode(latent.at[:, 3].add(1.0), masks)
    assert (abs(pred - other).max(-1) > 1e-6).all()
    # By hand: every block's keys are the visible tokens with their positions.
    decoder = model.decoder
    positions = decoder.pos_embed[0]
    seen = decoder.embed(latent) + positions[jnp.pad(masks.keep_BK + 1, ((0, 0), (1, 0)))]
    x = decoder.mask_token[...] + positions[None, 1:]
    x = jnp.broadcast_to(x, (3, *x.shape[1:]))
    for block in decoder.blocks:
        both = jnp.concatenate([block.norm1(x), seen], axis=1)
        weights = _weights_among(block.attn, both, keys=slice(24, None))
        to_v = attention.kinds(block.attn.qkv.affine())[2]
        mixed = weights @ attention.split_heads(to_v(seen), 2)
        x = x + block.attn.proj(attention.join_heads(mixed))
        x = x + block.mlp(block.norm2(x))
    np.testing.assert_allclose(pred, decoder.pred(decoder.norm(x)), rtol=1e-4, atol=1e-5)


def _weights_among(attn, x_BND, keys):
    """Of all tokens' weights those on some keys, as if the others were not there."""
    shares = attn.weights(x_BND)[:, :, : keys.start, keys]
    return shares / shares.sum(-1, keepdims=True)


@pytest.mark.parametrize("way", [ways.Grouped(shards=1), ways.WAYS["packed"]])
@pytest.mark.parametrize("width", [16, 128])
def test_every_way_looks_alike(way, width):
    keys = jax.random.split(jax.random.key(3), 4)
    module = attention.Attention(width, width // 8, dtype=jnp.float32, rngs=nnx.Rngs(0))
    qkv, out = module.qkv.affine(), module.proj.affine()
    seen, x = (jax.random.normal(k, (2, n, width)) for k, n in zip(keys, (5, 9), strict=False))

    def summed(way):
        def loss(seen, x, qkv):
            return jnp.square(way.look(seen, x, qkv, out, width // 8)).sum()

        return jax.value_and_grad(loss, (0, 1, 2))(seen, x, qkv)

    for one, other in zip(*map(jax.tree.leaves, map(summed, (ways.PLAIN, way))), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_tokens_that_look_at_themselves_attend():
    module = attention.Attention(16, 2, dtype=jnp.float32, rngs=nnx.Rngs(0))
    arguments = module.qkv.affine(), module.proj.affine(), 2
    x = jax.random.normal(jax.random.key(4), (2, 7, 16))
    np.testing.assert_array_equal(
        attention.attend(x, *arguments, queries=3), attention.look(x, x[:, :3], *arguments)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(decode_ratio=0.0), "decode_ratio 0.0 must be above 0 and at most 1"),
        (dict(decode_ratio=0.5, loss_on="all"), "is of hidden patches, and loss_on is 'all'"),
        (dict(decoder_attention="both"), "decoder_attention 'both' must be self or cross"),
        (dict(decoder_attention="cross", mask_tokens_in_encoder=True), "leave one of them out"),
    ],
)
def test_what_does_not_go_together(arguments, message):
    with pytest.raises(ValueError, match=message):
        MaskedAutoencoder(**SMALL | arguments, rngs=nnx.Rngs(0))


def test_a_crossed_decoder_has_the_parameters_of_any():
    shapes = [
        jax.tree.map(lambda leaf: leaf.shape, nnx.to_pure_dict(nnx.state(build(**changes))))
        for changes in ({}, {"decoder_attention": "cross"})
    ]
    assert shapes[0] == shapes[1]

"""Weights for images of another size, patches of another size and other channels."""

import jax
import numpy as np
import pytest
from made import SMALL, random_weights

from mae_jax.errors import UsageError
from mae_jax.weights import adapt, model

KERNEL, PRED = "patch_embed.proj.weight", "decoder_pred.weight"


def enlarged(images, old, new):
    """Every patch of images (B, H, W, C) enlarged by itself."""
    size, height, width, channels = images.shape
    rows, columns = height // old, width // old
    x = images.reshape(size, rows, old, columns, old, channels).transpose(0, 1, 3, 2, 4, 5)
    shape = (size, rows, columns, new, new, channels)
    x = jax.image.resize(x, shape, "linear", antialias=False).transpose(0, 1, 3, 2, 4, 5)
    return np.asarray(x).reshape(size, rows * new, columns * new, channels)


@pytest.mark.parametrize("new", [9, 12, 16])
def test_an_enlarged_patch_gives_the_same_token(new):
    """And an enlarged picture the same, enlarged prediction."""
    weights = random_weights()
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    noise = np.random.default_rng(1).random((2, 16), np.float32)
    fitted = adapt.fitted(weights, 4 * new, new)
    assert fitted.dimensions.grid == weights.dimensions.grid
    assert fitted.pixels.size == (4 * new, 4 * new)
    before = model.build(weights)(images, noise=noise)
    after = model.build(fitted)(enlarged(images, 8, new), noise=noise)
    np.testing.assert_allclose(after.latent, before.latent, atol=2e-5)
    as_patches = before.pred.reshape(-1, 8, 8, 3)
    np.testing.assert_allclose(
        after.pred.reshape(-1, new, new, 3), enlarged(as_patches, 8, new), atol=2e-5
    )


def test_smaller_patches_have_a_grid_that_is_finer():
    weights = random_weights()
    fitted = adapt.fitted(weights, None, (4, 8))
    assert fitted.dimensions.grid == (8, 4) and fitted.pixels == weights.pixels
    model.check_shapes(fitted, "it")


@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 1, 0, -1), (1,), (0, 0, -1, 1, 2)])
def test_channels_in_a_given_turn(turn):
    """An image whose channels lie so gives the tokens that it gave, scaled by the shares."""
    weights = random_weights()
    fitted = adapt.with_channels(weights, len(turn), turn)
    model.check_shapes(fitted, "it")
    kernel = weights.tensors[KERNEL]
    for place, channel in enumerate(turn):
        wanted = kernel.mean(1) if channel < 0 else kernel[:, channel]
        np.testing.assert_allclose(
            fitted.tensors[KERNEL][:, place], wanted * 3 / len(turn), atol=1e-6
        )
        pred = weights.tensors[PRED].reshape(64, 3, -1)
        wanted = pred.mean(1) if channel < 0 else pred[:, channel]
        found = fitted.tensors[PRED].reshape(64, len(turn), -1)[:, place]
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        mean = weights.pixels.mean
        assert fitted.pixels.mean[place] == pytest.approx(
            sum(mean) / 3 if channel < 0 else mean[channel]
        )


def test_a_grey_image_is_one_repeated():
    weights = random_weights()
    grey = np.random.default_rng(0).random((2, 32, 32, 1), np.float32)
    noise = np.random.default_rng(1).random((2, 16), np.float32)
    colour = weights.pixels.standardise(np.repeat(grey, 3, -1))
    before, adapted = model.build(weights)(colour, noise=noise), adapt.with_channels(weights, 1)
    after = model.build(adapted)(adapted.pixels.standardise(grey), noise=noise)
    np.testing.assert_allclose(after.latent, before.latent, atol=1e-5)
    pred = before.pred.reshape(2, 16, 64, 3).mean(-1)
    np.testing.assert_allclose(after.pred, pred, atol=1e-5)


def test_what_cannot_be_adapted_is_refused():
    weights = random_weights()
    with pytest.raises(UsageError, match=r"channels \(0, 3\) must be 2 of the weights' 3"):
        adapt.with_channels(weights, 2, (0, 3))
    with pytest.raises(UsageError, match="image_size .* patch_size"):
        adapt.fitted(weights, 30)
    pca = random_weights(**SMALL, target="pca", target_size=5)
    with pytest.raises(UsageError, match="predicts pca of a patch .* the encoder alone"):
        adapt.fitted(pca, 32, 4)
    with pytest.raises(UsageError, match="predicts pca of a patch"):
        adapt.with_channels(pca, 1)
    assert adapt.fitted(pca.encoder(), 32, 4).dimensions.patch_size == (4, 4)

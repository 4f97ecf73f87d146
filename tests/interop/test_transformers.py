"""transformers, whichever version is installed: `make test-interop` runs 5.x and then 4.57."""

import dataclasses
import pathlib
import runpy

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from made import ODD, SMALL, random_weights
from PIL import Image
from sklearn.datasets import load_sample_image

import mae_jax
from mae_jax.data.images import Pixels
from mae_jax.data.loader import Picture
from mae_jax.models import sizes
from mae_jax.weights import export, keymap

TOLERANCE = 1e-5


def load(kind, folder, **options):
    """As their users load; nothing may be missing, unexpected or of another shape."""
    loaded, info = kind.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not info.get("error_msgs")
    return loaded.eval()


def images_of(weights, batch=3):
    d = weights.dimensions
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, *d.image_size, d.channels), np.float32)
    return images, torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def close(theirs, ours):
    np.testing.assert_allclose(theirs.numpy(), np.asarray(ours), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("norm_pix", [True, False])
def test_full(tmp_path, norm_pix):
    weights = random_weights()
    object.__setattr__(weights, "norm_pix", norm_pix)
    export.export(weights, tmp_path / "out", format="huggingface")
    theirs = load(transformers.ViTMAEForPreTraining, tmp_path / "out")
    assert theirs.config.norm_pix_loss == norm_pix and theirs.config.layer_norm_eps == 1e-6
    images, pixels = images_of(weights)
    noise = np.random.default_rng(1).random((3, 16), np.float32)
    found = theirs(pixels, noise=torch.from_numpy(noise))
    ours = mae_jax.load(tmp_path / "out")(jnp.asarray(images), noise=jnp.asarray(noise))
    close(found.logits, ours.pred)
    close(found.loss, ours.loss)
    np.testing.assert_array_equal(found.mask.numpy(), ours.mask)


@pytest.mark.parametrize("arguments", [SMALL, ODD], ids=["small", "odd"])
def test_encoder(tmp_path, arguments):
    weights = random_weights(**arguments)
    export.export(weights, tmp_path / "out", format="huggingface", part="encoder")
    theirs = load(transformers.ViTModel, tmp_path / "out", add_pooling_layer=False)
    images, pixels = images_of(weights)
    found = theirs(pixels).last_hidden_state
    close(found, mae_jax.load_encoder(tmp_path / "out").encoder(jnp.asarray(images)))


@pytest.mark.slow
def test_encoder_of_published_size(tmp_path):
    weights = random_weights(size="base").encoder()
    export.export(weights, tmp_path / "out", format="huggingface")
    theirs = load(transformers.ViTModel, tmp_path / "out", add_pooling_layer=False)
    images, pixels = images_of(weights, 1)
    found = theirs(pixels).last_hidden_state
    close(found, mae_jax.load_encoder(tmp_path / "out").encoder(jnp.asarray(images)))


def test_class_token_classifier(tmp_path):
    weights = random_weights("classifier", pool="token")
    export.export(weights, tmp_path / "out", format="huggingface")
    theirs = load(transformers.ViTForImageClassification, tmp_path / "out")
    images, pixels = images_of(weights)
    close(theirs(pixels).logits, mae_jax.load(tmp_path / "out")(jnp.asarray(images)))


@pytest.mark.parametrize("crop", [None, 1.0])
def test_preprocessor_gives_our_evaluation_view(tmp_path, crop):
    weights = random_weights()
    weights = dataclasses.replace(weights, pixels=dataclasses.replace(weights.pixels, crop=crop))
    export.export(weights, tmp_path / "out", format="huggingface")
    kind = getattr(transformers, "BitImageProcessorPil", None) or transformers.BitImageProcessor
    processor = kind.from_pretrained(tmp_path / "out")
    picture = Image.fromarray(load_sample_image("flower.jpg")).crop((200, 100, 360, 213))
    theirs = np.asarray(processor(picture, return_tensors="np")["pixel_values"])[0]
    view = Picture(weights.pixels).plain(Pixels(np.asarray(picture)))
    difference = theirs.transpose(1, 2, 0) - np.asarray(weights.pixels.standardise(view))
    assert (255 * abs(difference) * weights.pixels.std).mean() < 0.3


def test_what_they_save_loads_here(tmp_path):
    config = transformers.ViTMAEConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
        decoder_hidden_size=32, decoder_num_hidden_layers=2, decoder_num_attention_heads=2,
        decoder_intermediate_size=128, image_size=32, patch_size=8, layer_norm_eps=1e-6,
        norm_pix_loss=True,
    )  # fmt: skip
    theirs = transformers.ViTMAEForPreTraining(config).eval()
    for parameter in theirs.parameters():  # some of a fresh model are zero
        parameter += 0.1 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path / "full")
    ours = mae_jax.load(tmp_path / "full")
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    noise = np.random.default_rng(1).random((2, 16), np.float32)
    output = ours(jnp.asarray(images), noise=jnp.asarray(noise))
    close(theirs(pixels, noise=torch.from_numpy(noise)).logits, output.pred)
    vit = transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
            image_size=32, patch_size=8, layer_norm_eps=1e-6,
        ),
        add_pooling_layer=False,
    ).eval()  # fmt: skip
    vit.save_pretrained(tmp_path / "plain")
    tokens = mae_jax.load_encoder(tmp_path / "plain").encoder(jnp.asarray(images))
    close(vit(pixels).last_hidden_state, tokens)


def test_a_fresh_model_of_the_benchmark_starts_as_published(tmp_path):
    path = pathlib.Path(__file__).parents[2] / "benchmarks" / "step_vs_pytorch.py"
    vitmae = runpy.run_path(str(path))["vitmae"]
    arguments = dict(
        image_size=32, patch_size=8, width=64, depth=1, heads=4,
        decoder_width=32, decoder_depth=1, decoder_heads=2,
    )  # fmt: skip
    theirs = vitmae(sizes.resolve("base", **arguments))
    ours = mae_jax.MaskedAutoencoder(**arguments, rngs=nnx.Rngs(0))
    for table, token, expected in (
        (theirs.vit.embeddings.position_embeddings, theirs.vit.embeddings.cls_token, ours.encoder),
        (theirs.decoder.decoder_pos_embed, theirs.decoder.mask_token, ours.decoder),
    ):
        np.testing.assert_array_equal(table.detach().numpy(), expected.pos_embed[...])
        assert 0.01 < float(token.std()) < 0.04


def test_positions_are_resized_as_theirs(tmp_path):
    weights = random_weights().encoder()
    export.export(weights, tmp_path / "out", format="huggingface")
    theirs = load(transformers.ViTModel, tmp_path / "out", add_pooling_layer=False)
    images = np.random.default_rng(0).standard_normal((2, 48, 80, 3), np.float32)
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    found = theirs(pixels, interpolate_pos_encoding=True).last_hidden_state
    ours = mae_jax.load_encoder(tmp_path / "out", image_size=(48, 80))
    close(found, ours.encoder(jnp.asarray(images)))


@pytest.mark.parametrize("size", ["base", "large", "huge"])
def test_keys_and_shapes_of_published_sizes(size):
    module = nnx.eval_shape(lambda: mae_jax.MaskedAutoencoder(size, rngs=nnx.Rngs(0)))
    d = module.dimensions
    shapes = {
        keymap.published_name(path): np.broadcast_to(0.0, keymap.shape_there(path, x.shape))
        for path, x in nnx.to_flat_state(nnx.state(module))
    }
    config = transformers.ViTMAEConfig(
        hidden_size=d.width, num_hidden_layers=d.depth, num_attention_heads=d.heads,
        intermediate_size=4 * d.width, patch_size=d.patch_size[0],
    )  # fmt: skip
    with torch.device("meta"):
        theirs = transformers.ViTMAEForPreTraining(config)
    found = {
        name.replace("decoder.decoder_encoder.layer.", "decoder.decoder_layers."): tuple(t.shape)
        for name, t in state_as_saved(theirs).items()
    }
    expected = {name: t.shape for name, t in keymap.to_huggingface(shapes).items()}
    assert found == expected
    assert len(found) == {"base": 334, "large": 526, "huge": 654}[size]
    assert set(keymap.expected("full", depth=d.depth, decoder_depth=8)) == shapes.keys()


def state_as_saved(module):
    """5.x may name parameters otherwise in memory than on disk."""
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:
        return module.state_dict()
    return revert_weight_conversion(module, module.state_dict())

"""Exports read by their own library, with its own preprocessing, beside the encoder as it is here.

A picture of the model's size with a crop of 1 is not resampled, so that nothing but rounding may
differ; that resampled views agree is for test_timm_and_torch.py and test_transformers.py.
"""

import dataclasses

import numpy as np
import pytest
import timm
import torch
import transformers
from made import SMALL, random_weights
from PIL import Image

import mae_jax
from mae_jax.data import sources
from mae_jax.inference.views import views
from mae_jax.weights import export

KINDS = {"colour": 3, "grey": 1, "grey of 16 bits": 1, "with transparency": 4}


@pytest.fixture(params=list(KINDS))
def pictures(request, tmp_path):
    """Weights for one kind of picture, two such files, and what Pillow makes of them."""
    rng, channels = np.random.default_rng(0), KINDS[request.param]
    weights = random_weights(**SMALL | {"channels": channels}).encoder()
    mean = tuple(0.1 * (c + 1) for c in range(channels))
    given = dataclasses.replace(weights.pixels, crop=1.0, mean=mean, std=(0.3,) * channels)
    weights, opened = dataclasses.replace(weights, pixels=given), []
    (tmp_path / "pictures").mkdir()
    for index in range(2):
        bits = 2**16 if "16" in request.param else 2**8
        pixels = rng.integers(0, bits, (32, 32, channels)).astype(f"uint{8 if bits < 999 else 16}")
        picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        picture.save(tmp_path / "pictures" / f"{index}.png")
        if bits > 999:  # the card says that more bits are scaled down first
            picture = Image.fromarray(np.round(pixels[..., 0] / 257).astype(np.uint8))
        opened.append(picture)
    return request.param, weights, tmp_path / "pictures", opened


def ours(folder, images):
    encoder = mae_jax.load_encoder(folder)
    (seen,) = views(sources.open_images(images), encoder.weights.pixels, range(2), 2)
    return encoder(seen.images, "token"), encoder(seen.images, "patches")


def test_timm(tmp_path, pictures):
    _, weights, images, opened = pictures
    export.export(weights, tmp_path / "out", format="timm")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    found = model.forward_features(torch.stack([prepare(picture) for picture in opened])).numpy()
    token, patches = ours(tmp_path / "out", images)
    np.testing.assert_allclose(found[:, 0], token, atol=1e-4)
    np.testing.assert_allclose(found[:, 1:], patches, atol=1e-4)


def test_transformers(tmp_path, pictures):
    kind, weights, images, opened = pictures
    export.export(weights, tmp_path / "out", format="huggingface")
    prepare = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out")
    if kind != "colour" and transformers.__version__.startswith("4."):
        with pytest.raises(ValueError):
            prepare(opened, return_tensors="np")
        return
    pixels = torch.from_numpy(np.asarray(prepare(opened, return_tensors="np")["pixel_values"]))
    model = transformers.ViTModel.from_pretrained(tmp_path / "out", add_pooling_layer=False).eval()
    found = model(pixels).last_hidden_state.numpy()
    token, patches = ours(tmp_path / "out", images)
    np.testing.assert_allclose(found[:, 0], token, atol=1e-4)
    np.testing.assert_allclose(found[:, 1:], patches, atol=1e-4)


def test_what_they_cannot_prepare_they_are_not_told_how(tmp_path):
    weights = random_weights(**SMALL | {"channels": 5}).encoder()
    export.export(weights, tmp_path / "out", format="huggingface")
    with pytest.raises(OSError, match="preprocessor_config"):
        transformers.AutoImageProcessor.from_pretrained(tmp_path / "out")

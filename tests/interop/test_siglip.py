"""The image towers of SigLIP and SigLIP 2, beside transformers' own."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

import mae_jax

SIZES = dict(
    hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, patch_size=8
)
TEXT = SIZES | {"vocab_size": 50}


def saved(model, folder, tower):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    preprocessor = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return tower(model).eval()


def images():
    return np.random.default_rng(0).standard_normal((3, 32, 32, 3), np.float32)


@pytest.mark.parametrize("alone", [False, True])
def test_siglip(tmp_path, alone):
    vision = SIZES | {"image_size": 32}
    if alone:
        config = transformers.SiglipVisionConfig(**vision)
        model = transformers.SiglipVisionModel(config)
    else:
        text = {name: value for name, value in TEXT.items() if name != "patch_size"}
        config = transformers.SiglipConfig(text_config=text, vision_config=vision)
        model = transformers.SiglipModel(config)
    tower = saved(model, tmp_path, lambda model: getattr(model, "vision_model", model))
    with torch.no_grad():
        theirs = tower(torch.from_numpy(images().transpose(0, 3, 1, 2))).last_hidden_state
    encoder = mae_jax.load_encoder(tmp_path)
    ours = encoder.encoder(jnp.asarray(images()))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5, rtol=1e-5)
    assert encoder.weights.gelu == "tanh" and encoder.weights.class_tokens == 0


def test_siglip_2(tmp_path):
    if not hasattr(transformers, "Siglip2VisionModel"):
        pytest.skip("this transformers has no SigLIP 2")
    config = transformers.Siglip2VisionConfig(**SIZES, num_patches=16)
    model = transformers.Siglip2VisionModel(config)
    tower = saved(model, tmp_path, lambda model: getattr(model, "vision_model", model))
    rows = images().reshape(3, 4, 8, 4, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(3, 16, -1)
    with torch.no_grad():
        theirs = tower(
            torch.from_numpy(rows.copy()), torch.ones(3, 16), torch.tensor([[4, 4]] * 3)
        ).last_hidden_state
    ours = mae_jax.load_encoder(tmp_path).encoder(jnp.asarray(images()))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5, rtol=1e-5)

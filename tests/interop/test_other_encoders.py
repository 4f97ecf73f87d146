"""Encoders that others trained, with random weights: DINO, DINOv2, MoCo v3 and supervised ViTs."""

import jax.numpy as jnp
import numpy as np
import pytest
import timm
import torch
import transformers

import mae_jax
from mae_jax.errors import UsageError

VIT = dict(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14,
)  # fmt: skip


def perturbed(module):
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module.eval()


def images():
    made = np.random.default_rng(0).standard_normal((2, 28, 28, 3), np.float32)
    return jnp.asarray(made), torch.from_numpy(made.transpose(0, 3, 1, 2).copy())


def test_dinov2_of_transformers(tmp_path):
    config = transformers.Dinov2Config(**VIT, layerscale_value=0.7)
    theirs = perturbed(transformers.Dinov2Model(config))
    theirs.save_pretrained(tmp_path)
    ours, pixels = images()
    found = theirs(pixels).last_hidden_state.numpy()
    encoder = mae_jax.load_encoder(tmp_path)
    assert encoder.weights.dimensions.patch_size == (14, 14)
    np.testing.assert_allclose(encoder.encoder(ours), found, atol=1e-5, rtol=1e-5)


def test_dinov2_with_registers_of_transformers(tmp_path):
    config = transformers.Dinov2WithRegistersConfig(
        **VIT, layerscale_value=0.7, num_register_tokens=3
    )
    theirs = perturbed(transformers.Dinov2WithRegistersModel(config))
    theirs.save_pretrained(tmp_path)
    ours, pixels = images()
    found = theirs(pixels)
    encoder = mae_jax.load_encoder(tmp_path)
    tokens = encoder.encoder(ours)
    np.testing.assert_allclose(tokens, found.last_hidden_state.numpy(), atol=1e-5, rtol=1e-5)
    # Registers are not read: what counts as the class's features is the class token alone.
    np.testing.assert_allclose(
        encoder.encoder.class_features(tokens), found.pooler_output.numpy(), atol=1e-5, rtol=1e-5
    )
    assert encoder.weights.class_tokens - encoder.weights.registers == 1


def test_a_gated_mlp_is_refused(tmp_path):
    gated = transformers.Dinov2Model(transformers.Dinov2Config(**VIT, use_swiglu_ffn=True))
    gated.save_pretrained(tmp_path / "gated")
    with pytest.raises(UsageError, match="a gated MLP"):
        mae_jax.load_encoder(tmp_path / "gated")


def in_timm(name, folder):
    arguments = dict(img_size=28, embed_dim=64, depth=2, num_heads=4)
    theirs = perturbed(timm.create_model(name, num_classes=0, **arguments))
    timm.models.save_for_hf(theirs, folder, model_args=arguments, safe_serialization=True)
    return theirs


@pytest.mark.parametrize(
    "name",
    [
        "vit_small_patch14_dinov2",
        "vit_small_patch14_reg4_dinov2",
        "vit_small_patch14_224.untrained" if timm.is_model("vit_small_patch14_224") else
        "vit_huge_patch14_224",
    ],
)  # fmt: skip
def test_encoders_of_timm(tmp_path, name):
    theirs = in_timm(name, tmp_path)
    ours, pixels = images()
    encoder = mae_jax.load_encoder(tmp_path)
    np.testing.assert_allclose(
        encoder.encoder(ours), theirs.forward_features(pixels).numpy(), atol=1e-5, rtol=1e-5
    )


def test_a_supervised_vit_of_transformers_with_its_own_epsilon(tmp_path):
    # DINO's and most supervised ViTs there have an epsilon of 1e-12 in their norms, and a pooler.
    theirs = perturbed(transformers.ViTModel(transformers.ViTConfig(**VIT, intermediate_size=256)))
    assert theirs.config.layer_norm_eps == 1e-12
    theirs.save_pretrained(tmp_path)
    ours, pixels = images()
    encoder = mae_jax.load_encoder(tmp_path)
    found = theirs(pixels).last_hidden_state.numpy()
    np.testing.assert_allclose(encoder.encoder(ours), found, atol=1e-4)

"""The names that others look for, written out: reading what we wrote ourselves proves none."""

import numpy as np
from made import SMALL, random_weights
from safetensors.numpy import load_file

from mae_jax.weights import export, keymap

TWO_BLOCKS = SMALL | {"depth": 2, "decoder_depth": 2}
_BLOCK = {
    "norm1.weight": ("layernorm_before.weight",),
    "norm1.bias": ("layernorm_before.bias",),
    "attn.qkv.weight": (
        "attention.attention.query.weight",
        "attention.attention.key.weight",
        "attention.attention.value.weight",
    ),
    "attn.qkv.bias": (
        "attention.attention.query.bias",
        "attention.attention.key.bias",
        "attention.attention.value.bias",
    ),
    "attn.proj.weight": ("attention.output.dense.weight",),
    "attn.proj.bias": ("attention.output.dense.bias",),
    "norm2.weight": ("layernorm_after.weight",),
    "norm2.bias": ("layernorm_after.bias",),
    "mlp.fc1.weight": ("intermediate.dense.weight",),
    "mlp.fc1.bias": ("intermediate.dense.bias",),
    "mlp.fc2.weight": ("output.dense.weight",),
    "mlp.fc2.bias": ("output.dense.bias",),
}


def _blocks(published, there, count):
    return {
        f"{published}.{i}.{name}": tuple(f"{there}.{i}.{name_there}" for name_there in names)
        for i in range(count)
        for name, names in _BLOCK.items()
    }


# Two blocks of an encoder, and of a decoder: block after block, as published files have them.
NAMES = {
    "cls_token": ("vit.embeddings.cls_token",),
    "pos_embed": ("vit.embeddings.position_embeddings",),
    "patch_embed.proj.weight": ("vit.embeddings.patch_embeddings.projection.weight",),
    "patch_embed.proj.bias": ("vit.embeddings.patch_embeddings.projection.bias",),
    **_blocks("blocks", "vit.encoder.layer", 2),
    "norm.weight": ("vit.layernorm.weight",),
    "norm.bias": ("vit.layernorm.bias",),
    "decoder_embed.weight": ("decoder.decoder_embed.weight",),
    "decoder_embed.bias": ("decoder.decoder_embed.bias",),
    "mask_token": ("decoder.mask_token",),
    "decoder_pos_embed": ("decoder.decoder_pos_embed",),
    **_blocks("decoder_blocks", "decoder.decoder_layers", 2),
    "decoder_norm.weight": ("decoder.decoder_norm.weight",),
    "decoder_norm.bias": ("decoder.decoder_norm.bias",),
    "decoder_pred.weight": ("decoder.decoder_pred.weight",),
    "decoder_pred.bias": ("decoder.decoder_pred.bias",),
}


def test_published_names_in_their_order():
    weights = random_weights(**TWO_BLOCKS)
    assert list(weights.tensors) == list(NAMES)
    assert list(keymap.to_published(keymap.from_published(weights.tensors))) == list(NAMES)


def test_names_in_transformers(tmp_path):
    weights = random_weights(**TWO_BLOCKS)
    export.export(weights, tmp_path / "out", format="huggingface")
    there = load_file(tmp_path / "out" / "model.safetensors")
    assert set(there) == {name for names in NAMES.values() for name in names}
    for name, names in NAMES.items():
        assert np.array_equal(np.concatenate([there[n] for n in names]), weights.tensors[name])


def test_names_of_an_encoder_in_transformers_and_timm(tmp_path):
    weights = random_weights(**TWO_BLOCKS).encoder()
    for format in ("huggingface", "timm"):
        export.export(weights, tmp_path / format, format=format)
    there = load_file(tmp_path / "huggingface" / "model.safetensors")
    expected = [name for name in NAMES if "decoder" not in name and name != "mask_token"]
    assert set(there) == {n.removeprefix("vit.") for name in expected for n in NAMES[name]}
    assert set(load_file(tmp_path / "timm" / "model.safetensors")) == set(expected)

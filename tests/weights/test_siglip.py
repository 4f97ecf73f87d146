"""SigLIP's image tower from its names alone; beside transformers itself: tests/interop."""

import json

import numpy as np
import pytest
from made import SMALL, random_weights
from safetensors.numpy import save_file

from mae_jax.errors import UsageError
from mae_jax.weights import keymap, read

_NAMES = {
    "embeddings.patch_embeddings.projection": "embeddings.patch_embedding",
    "encoder.layer.": "encoder.layers.",
    "layernorm_before": "layer_norm1",
    "layernorm_after": "layer_norm2",
    "attention.attention.query": "self_attn.q_proj",
    "attention.attention.key": "self_attn.k_proj",
    "attention.attention.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}


def written(folder, config):
    """A small encoder without a class token, as SigLIP's; its published tensors."""
    expected = random_weights(**SMALL | {"class_token": False}).encoder().tensors
    made = {
        "logit_scale": np.ones(1),
        "text_model.x": np.ones(2),
        "vision_model.head.probe": np.ones(3),
    }
    for name, value in keymap.to_huggingface(expected).items():
        name = name.removeprefix("vit.").replace("position_embeddings", "position_embedding.weight")
        name = "post_" + name if name.startswith("layernorm.") else name
        for ours, theirs in _NAMES.items():
            name = name.replace(ours, theirs)
        value = value[0] if name == "embeddings.position_embedding.weight" else value
        made[f"vision_model.{name}"] = np.ascontiguousarray(value)
    save_file(
        {name: value.astype(np.float32) for name, value in made.items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps(config))
    return expected


def test_the_image_tower_is_read_and_the_rest_left_out(tmp_path, capsys):
    vision = {"image_size": 32, "patch_size": 8, "num_attention_heads": 4}
    expected = written(tmp_path, {"model_type": "siglip", "vision_config": vision})
    weights = read.read(tmp_path)
    assert weights.tensors.keys() == expected.keys()
    assert all(np.array_equal(weights.tensors[name], expected[name]) for name in expected)
    assert weights.gelu == "tanh" and weights.class_tokens == 0
    assert weights.dimensions.heads == 4 and weights.dimensions.image_size == (32, 32)
    assert "its attention pooling is left out" in capsys.readouterr().err


def test_what_a_config_leaves_out_is_that_of_the_base_model(tmp_path):
    written(
        tmp_path, {"model_type": "siglip", "vision_config": {"model_type": "siglip_vision_model"}}
    )
    with pytest.raises(UsageError, match="12|224|16"):  # of which the small one is none
        read.read(tmp_path)

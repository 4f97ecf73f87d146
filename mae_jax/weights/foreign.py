"""Encoders trained otherwise, as the plain vision transformer that they compute.

DINO, MoCo v3 and supervised ViTs have the same parameters as MAE's encoder. DINOv2 adds a scale
after either branch of every block, which goes into the linear map before it: the outputs are the
same to rounding.
"""

import re

import numpy as np

from mae_jax.errors import UsageError

_SCALED = {"ls1": "attn.proj", "ls2": "mlp.fc2"}
_SCALE = re.compile(r"blocks\.(\d+)\.(ls[12])\.gamma")
# transformers' names of DINOv2, to those of its ViT.
_DINOV2 = (
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
_DINOV2_SCALE = re.compile(r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1")


def plain(tensors: dict[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Tensors by published name, with the scales of DINOv2's branches folded into what they scale.

    The token that DINOv2 masks patches with in training goes.

    Args:
      source: to name in errors.

    Raises:
      UsageError: it has register tokens, or a gated MLP, which our encoder has not.
    """
    for name, what in (
        ("reg_token", "register tokens"),
        ("register_tokens", "register tokens"),
        ("blocks.0.mlp.w12.weight", "a gated MLP"),
    ):
        if name in tensors:
            raise UsageError(f"{source} has {what} ({name}), which mae_jax's encoder has not")
    scales = {name: found for name in tensors if (found := _SCALE.fullmatch(name))}
    if not scales:
        return tensors
    made = {n: t for n, t in tensors.items() if n not in scales and n != "mask_token"}
    for name, found in scales.items():
        gamma = np.asarray(tensors[name], np.float32)
        layer = f"blocks.{found.group(1)}.{_SCALED[found.group(2)]}"
        for part in (f"{layer}.weight", f"{layer}.bias"):
            if part not in made:
                raise UsageError(f"{source} has {name}, but no {part}")
            values = np.asarray(made[part], np.float32)
            made[part] = values * gamma.reshape(-1, *[1] * (values.ndim - 1))
    return made


def from_dinov2(tensors: dict[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """transformers' Dinov2Model as its ViTModel's names; scales keep their published ones.

    Raises:
      UsageError: it has a gated MLP.
    """
    made = {}
    for name, value in tensors.items():
        if ".mlp.weights_" in name:
            raise UsageError(f"{source} has a gated MLP ({name}), which mae_jax's encoder has not")
        name = name.removeprefix("dinov2.")
        if name == "embeddings.mask_token":
            continue
        scale = _DINOV2_SCALE.fullmatch(name)
        if scale:
            made[f"blocks.{scale.group(1)}.ls{scale.group(2)}.gamma"] = value
            continue
        if name.startswith("encoder.layer."):
            for pattern, there in _DINOV2:
                name = re.sub(pattern, there, name)
        made[name] = value
    return made

"""Encoders trained otherwise, as the plain vision transformer that they compute.

DINO, MoCo v3 and supervised ViTs have the same parameters as MAE's encoder. DINOv2 adds a scale
after either branch of every block, which goes into the linear map before it: the outputs are the
same to rounding. DINOv2 with registers has further tokens behind its class token. The image tower
of SigLIP and SigLIP 2 has no class token; what pools its patch tokens is not a part of ours.
"""

import math
import re

import numpy as np

from mae_jax.errors import UsageError

_REGISTERS = ("reg_token", "register_tokens")
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
# transformers' names of SigLIP's image tower, to those of its ViT.
_SIGLIP = (
    (r"^vision_model\.", ""),
    (r"^embeddings\.patch_embedding\.", "embeddings.patch_embeddings.projection."),
    (r"^embeddings\.position_embedding\.weight$", "embeddings.position_embeddings"),
    (r"^encoder\.layers\.", "encoder.layer."),
    (r"\.layer_norm1\.", ".layernorm_before."),
    (r"\.layer_norm2\.", ".layernorm_after."),
    (r"\.self_attn\.q_proj\.", ".attention.attention.query."),
    (r"\.self_attn\.k_proj\.", ".attention.attention.key."),
    (r"\.self_attn\.v_proj\.", ".attention.attention.value."),
    (r"\.self_attn\.out_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"^post_layernorm\.", "layernorm."),
)
_SIGLIP_LEFT_OUT = re.compile(r"text_model\.|(vision_model\.)?head\.|logit_(scale|bias)$")


def plain(tensors: dict[str, np.ndarray], source: str) -> tuple[dict[str, np.ndarray], int]:
    """Tensors by published name, with the scales of DINOv2's branches folded into what they scale.

    The token that DINOv2 masks patches with in training goes; registers become further class
    tokens, after the others.

    Args:
      source: to name in errors.

    Returns:
      The tensors, and how many of the class tokens are registers.

    Raises:
      UsageError: it has a gated MLP, which our encoder has not, or tokens that do not fit together.
    """
    if (name := "blocks.0.mlp.w12.weight") in tensors:
        raise UsageError(f"{source} has a gated MLP ({name}), which mae_jax's encoder has not")
    tensors, registers = _with_registers(tensors, source)
    return _unscaled(tensors, source), registers


def _with_registers(tensors, source):
    name = next((n for n in _REGISTERS if n in tensors), None)
    if name is None:
        return tensors, 0
    made = dict(tensors)
    parts = [np.asarray(made.get(n, 0), np.float32) for n in (name, "cls_token", "pos_embed")]
    outer = {part.shape[:1] + part.shape[2:] for part in parts}
    if len(outer) > 1 or any(part.ndim != 3 or len(part) != 1 for part in parts):
        raise UsageError(f"{source}: {name}, cls_token and pos_embed must each be (1, T, D)")
    registers, token, table = parts
    del made[name]
    count, rows = registers.shape[1], table.shape[1]
    # Positions of patches alone, with the class token, with all tokens; DINOv2's grids are square.
    held = (0, token.shape[1], token.shape[1] + count)
    tokens = next((t for t in held if rows > t and math.isqrt(rows - t) ** 2 == rows - t), None)
    if tokens is None:
        raise UsageError(
            f"{source}: pos_embed has {rows} rows, and with {name} must be of a square"
        )
    zeros = np.zeros((1, held[-1] - tokens, table.shape[2]), np.float32)
    made["cls_token"] = np.concatenate([token, registers], 1)
    made["pos_embed"] = np.concatenate([table[:, :tokens], zeros, table[:, tokens:]], 1)
    return made, count


def _unscaled(tensors, source):
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


def is_apart(name: str) -> bool:
    """Whether a published name is of what `plain` folds into the rest."""
    return name in _REGISTERS or _SCALE.fullmatch(name) is not None


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
        if name == "embeddings.register_tokens":
            made["register_tokens"] = value
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


def from_siglip(tensors: dict[str, np.ndarray], patch: int) -> dict[str, np.ndarray]:
    """The image tower of transformers' SiglipModel or Siglip2Model, as its ViTModel's names.

    The text tower goes, and the head that pools the patch tokens by attention.

    Args:
      patch: pixels of a patch's side.
    """
    made = {}
    for name, value in tensors.items():
        if _SIGLIP_LEFT_OUT.match(name):
            continue
        for pattern, there in _SIGLIP:
            name = re.sub(pattern, there, name)
        if name == "embeddings.position_embeddings" and value.ndim == 2:
            value = value[None]
        if name.endswith("projection.weight") and value.ndim == 2:
            # Of SigLIP 2 with any shape of images: a linear map of rows, columns, colours.
            value = np.moveaxis(value.reshape(len(value), patch, patch, -1), -1, 1)
        made[name] = value
    return made

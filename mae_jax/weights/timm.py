"""timm's folders: an encoder, or a classifier on it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.errors import UsageError
from mae_jax.weights import formats, pth
from mae_jax.weights import said as said_lib
from mae_jax.weights.described import Weights

# timm's own names of the published encoders: width, depth, heads, patch.
_NAMED = {
    (192, 12, 3, 16): "vit_tiny_patch16_224",
    (384, 12, 6, 16): "vit_small_patch16_224",
    (768, 12, 12, 16): "vit_base_patch16_224",
    (1024, 24, 16, 16): "vit_large_patch16_224",
    (1280, 32, 16, 14): "vit_huge_patch14_224",
}


_GELUS = {"gelu": "erf", "gelu_tanh": "tanh"}


def check_kind(config: dict[str, Any], source: str) -> None:
    """Raises UsageError, naming `source`, unless a config may be of a ViT as it is computed here.

    What a name does not tell, the names and shapes of the tensors do.
    """
    name = str(config["architecture"])
    if not re.search("vit|deit", name):
        raise UsageError(f"{source} holds timm's {name!r}; known are its ViTs, vit_… and deit_…")
    if _activation(config, source) not in _GELUS:
        raise UsageError(
            f"{source} holds timm's {name!r}, whose activation is {_activation(config, source)!r}; "
            f"known are {', '.join(_GELUS)}"
        )


def _activation(config, source):
    said = said_lib.section(config, "model_args", source).get("act_layer")
    # SigLIP was trained with the tanh formula, which timm has of most of its sizes by their names.
    return str(said or ("gelu_tanh" if "siglip" in str(config["architecture"]) else "gelu"))


def _check_pooling(tensors, config, source):
    """Which tokens the head reads is not seen in the tensors."""
    pool = config.get("global_pool")
    implied = "avg" if "fc_norm.weight" in tensors else "token"
    if "head.weight" in tensors and pool not in (None, implied):
        raise UsageError(
            f"{source} says global_pool {pool!r}, and has the norm that goes with {implied!r}; its "
            "head would read other features than it was trained on"
        )


def read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], list[Path]]:
    """Tensors by name, what the folder's config says, and the files that hold tensors.

    Raises:
      UsageError: there are no weights.
    """
    source, config = repr(str(folder)), said_lib.read_json(folder / "config.json")
    check_kind(config, source)
    arguments, about, ours = (
        said_lib.section(config, name, source)
        for name in ("model_args", "pretrained_cfg", "mae_jax")
    )
    given = about.get("input_size")
    for name, reader in (
        ("model.safetensors", formats.read_safetensors),
        ("pytorch_model.bin", pth.read),
    ):
        if (folder / name).is_file():
            tensors, _ = reader(folder / name)
            break
    else:
        raise UsageError(f"{source} has a config.json but no model.safetensors")
    _check_pooling(tensors, config, source)
    said = {
        "image_size": arguments.get("img_size") or (given[1:] if isinstance(given, list) else None),
        "heads": arguments.get("num_heads"),
        "class_token": arguments.get("class_token"),
        "gelu": _GELUS[_activation(config, source)],
        "mean": about.get("mean"),
        "std": about.get("std"),
        "crop": about.get("crop_pct"),
        "origin": {"license": about.get("license"), "classes": config.get("label_names")},
    }
    return tensors, said | ours, [folder / name]


def config(weights: Weights) -> dict[str, Any]:
    """timm's config of these weights.

    Raises:
      UsageError: they have a decoder, or what timm has no model for.
    """
    if weights.kind == "full":
        raise UsageError("timm has no decoder for these weights; give --part=encoder")
    if weights.class_tokens > 1:
        raise UsageError(
            f"timm's ViT has one class token, and these weights have {weights.class_tokens}"
        )
    d = weights.dimensions
    named = _NAMED.get((d.width, d.depth, d.heads, d.patch_size[0]), "vit_base_patch16_224")
    classes = len(weights.tensors["head.bias"]) if weights.kind == "classifier" else 0
    # A head reads what it was trained on. Without one, `model(x)` is what `embed` gives, too.
    means = weights.mean_pool or weights.kind == "encoder" or not weights.class_token
    pool = "avg" if means else "token"
    arguments = dict(
        img_size=list(d.image_size),
        patch_size=list(d.patch_size) if len(set(d.patch_size)) > 1 else d.patch_size[0],
        in_chans=d.channels,
        embed_dim=d.width,
        depth=d.depth,
        num_heads=d.heads,
        class_token=weights.class_token,
        global_pool=pool,
        fc_norm=weights.mean_pool,
    )
    if weights.gelu == "tanh":
        arguments["act_layer"] = "gelu_tanh"
    names = {"label_names": list(weights.classes)} if weights.classes else {}
    return names | {
        "architecture": named,
        "num_classes": classes,
        "num_features": d.width,
        "global_pool": pool,
        "model_args": arguments,
        "pretrained_cfg": {
            "tag": "mae_jax",
            "input_size": [d.channels, *d.image_size],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": weights.pixels.crop,
            "crop_mode": "center",
            "mean": list(weights.pixels.mean),
            "std": list(weights.pixels.std),
            "num_classes": classes,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "license": weights.origin.get("license"),
        },
    }


def write(folder: Path, weights: Weights, about: dict[str, Any]) -> list[Path]:
    """Writes config and tensors; returns the files with tensors."""
    made = config(weights) | {"mae_jax": about}
    (folder / "config.json").write_text(json.dumps(made, indent=2) + "\n")
    formats.write_safetensors(folder / "model.safetensors", weights.tensors)
    return [folder / "model.safetensors"]

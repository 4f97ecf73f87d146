"""transformers' folders: ViTMAE (encoder and decoder), ViT, ViT with a class-token head."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data.augment import resized_side
from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.weights import foreign, formats, keymap, pth
from mae_jax.weights import said as said_lib
from mae_jax.weights.described import Weights

_DINOV2 = ("dinov2", "dinov2_with_registers")
_SIGLIP = ("siglip", "siglip_vision_model", "siglip2", "siglip2_vision_model")
_KNOWN = ("vit", "vit_mae", *_DINOV2, *_SIGLIP)
# What their configs leave out is that of the base model.
_SIGLIP_BASE = {"num_attention_heads": 12, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh"}
_GELUS = {"gelu": "erf", "gelu_pytorch_tanh": "tanh", "gelu_new": "tanh"}
_BARE = ("embeddings.", "encoder.", "layernorm.")  # where a file holds the encoder alone
_NAMES = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "num_attention_heads": "heads",
    "decoder_num_attention_heads": "decoder_heads",
    "norm_pix_loss": "norm_pix",
    "mask_ratio": "mask_ratio",
}


def to_published(tensors: dict[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """transformers' tensors by published name; both spellings of the decoder's blocks are read.

    Raises:
      UsageError: a name is not in the table, or a part of qkv lacks.
    """
    spelled = {}
    for name, value in tensors.items():
        name = name.replace("decoder.decoder_encoder.layer.", "decoder.decoder_layers.")
        spelled["vit." + name if name.startswith(_BARE) else name] = value
    published, missing, unexpected = keymap.from_huggingface(spelled)
    if missing or unexpected:
        raise UsageError(
            f"{source} is not a ViT's or a ViTMAE's weights: missing are "
            f"{', '.join(missing) or 'none'}; unexpected are {', '.join(unexpected) or 'none'}"
        )
    return published


def check_kind(config: dict[str, Any], source: str) -> None:
    """Raises UsageError, naming `source`, unless a config is of a model that is read here."""
    if config["model_type"] not in _KNOWN:
        known = ", ".join(map(repr, _KNOWN))
        raise UsageError(f"{source} holds a {config['model_type']!r} model; known are {known}")
    config = _of_images(config)
    allowed = ("gelu",) if config["model_type"] == "vit_mae" else tuple(_GELUS)
    if config.get("hidden_act", "gelu") not in allowed:
        said, must = config["hidden_act"], " or ".join(map(repr, allowed))
        raise UsageError(f"{source}: hidden_act {said!r} must be {must}")


def read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], list[Path]]:
    """Tensors by published name, what the folder's files say, and the files that hold tensors.

    Raises:
      UsageError: it is another kind of model, or incomplete.
    """
    source = repr(str(folder))
    config = said_lib.read_json(folder / "config.json")
    check_kind(config, source)
    config = _of_images(config)
    files = _files(folder)
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        one = pth.read(file) if file.suffix == ".bin" else formats.read_safetensors(file)
        tensors |= one[0]
    said = {ours: config.get(theirs) for theirs, ours in _NAMES.items()}
    apart: dict[str, np.ndarray] = {}  # what `foreign.plain` knows
    if config["model_type"] != "vit_mae":
        del said["norm_pix"], said["mask_ratio"]
        said["gelu"] = _GELUS[config.get("hidden_act", "gelu")]
        # What stands above the class token, for other tasks than its features'.
        tensors = {n: t for n, t in tensors.items() if "pooler." not in n}
    if config["model_type"] in _DINOV2:
        tensors = foreign.from_dinov2(tensors, source)
        apart = {n: tensors.pop(n) for n in list(tensors) if foreign.is_apart(n)}
    if config["model_type"] in _SIGLIP:
        tensors = foreign.from_siglip(tensors, int(config["patch_size"]))
        say(f"{source}: its attention pooling is left out; features are of its patch tokens")
    preprocessor = folder / "preprocessor_config.json"
    if preprocessor.is_file():
        images = said_lib.read_json(preprocessor)
        said |= {"mean": images.get("image_mean"), "std": images.get("image_std")}
        said["crop"] = _crop(images)
    names = said_lib.names(config.get("id2label"), "id2label", source)
    if config["model_type"] == "vit" and any(not re.fullmatch(r"LABEL_\d+", n) for n in names):
        said["origin"] = {"classes": names}
    published = to_published(tensors, source) | apart
    return published, said | said_lib.section(config, "mae_jax", source), files


def _of_images(config: dict[str, Any]) -> dict[str, Any]:
    """A config, of a model of images and texts that of its image tower."""
    if config["model_type"] not in _SIGLIP:
        return config
    vision = said_lib.section(config, "vision_config", "config.json") or config
    vision = _SIGLIP_BASE | vision
    if "siglip2" in config["model_type"]:  # images of any shape, of so many patches in all
        side = math.isqrt(int(vision.get("num_patches", 256)))
        vision["image_size"] = side * int(vision["patch_size"])
    else:
        vision.setdefault("image_size", 224)
    return vision | {"model_type": config["model_type"]}


def _files(folder):
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        found = shards(index)
        for name in found:
            if not (folder / name).is_file():
                raise UsageError(f"{str(index)!r} names {name!r}, which is not there")
        if found:
            return [folder / name for name in found]
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
    raise UsageError(f"{str(folder)!r} has a config.json but no model.safetensors")


def shards(index: Path) -> list[str]:
    """The names of the files that a `model.safetensors.index.json` says hold the tensors.

    Raises:
      UsageError: it is damaged, or names files of other folders.
    """
    source = repr(str(index))
    parts = said_lib.section(said_lib.read_json(index), "weight_map", source)
    found = sorted(set(said_lib.names(parts, "weight_map", source)))
    if any(Path(name).name != name or "\0" in name for name in found):
        raise UsageError(f"{source} names files of other folders")
    return found


def config(weights: Weights) -> dict[str, Any]:
    """transformers' config of these weights.

    Raises:
      UsageError: transformers has no such model.
    """
    d = weights.dimensions
    if weights.kind == "classifier" and weights.mean_pool:
        raise UsageError(
            "transformers' ViTForImageClassification reads the class token, and this classifier "
            "reads the mean of the patches; take --format=timm"
        )
    if weights.mean_pool or not weights.class_token or weights.mask_tokens_in_encoder:
        lack = "the last norm" if weights.mean_pool else "a class token"
        if weights.mask_tokens_in_encoder:
            lack = "an encoder that hidden patches are left out of"
        raise UsageError(f"transformers' ViT needs {lack}, which these weights lack")
    if weights.kind == "full" and weights.target != "pixels":
        raise UsageError(
            f"transformers' ViTMAE predicts pixels, and these weights predict {weights.target}; "
            "give --part=encoder"
        )
    if weights.kind == "full" and weights.decoder_attention != "self":
        raise UsageError(
            "transformers' ViTMAE has a decoder whose tokens all look at all, and in that of these "
            "weights hidden patches look at visible ones alone; give --part=encoder"
        )
    if weights.class_tokens > 1:
        raise UsageError(
            f"transformers' ViT has one class token, and these weights have {weights.class_tokens}"
        )
    if len(set(d.patch_size)) > 1:
        raise UsageError(f"transformers' ViT has square patches, and these are {d.patch_size}")
    kinds = {
        "full": ("ViTMAEForPreTraining", "vit_mae"),
        "encoder": ("ViTModel", "vit"),
        "classifier": ("ViTForImageClassification", "vit"),
    }
    architecture, model_type = kinds[weights.kind]
    square = len(set(d.image_size)) == 1
    made = {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_size": d.width,
        "num_hidden_layers": d.depth,
        "num_attention_heads": d.heads,
        "intermediate_size": 4 * d.width,
        "hidden_act": {"erf": "gelu", "tanh": "gelu_pytorch_tanh"}[weights.gelu],
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-6,
        "image_size": d.image_size[0] if square else list(d.image_size),
        "patch_size": d.patch_size[0],
        "num_channels": d.channels,
        "qkv_bias": True,
    }
    if weights.kind == "full":
        made |= {
            "decoder_num_attention_heads": d.decoder_heads,
            "decoder_hidden_size": d.decoder_width,
            "decoder_num_hidden_layers": d.decoder_depth,
            "decoder_intermediate_size": 4 * d.decoder_width,
            "mask_ratio": weights.mask_ratio,
            "norm_pix_loss": weights.norm_pix,
        }
    if weights.kind == "classifier":
        outputs = range(len(weights.tensors["head.bias"]))
        names = weights.classes or [f"LABEL_{i}" for i in outputs]  # as transformers calls them
        made["id2label"] = {str(i): names[i] for i in outputs}
        made["label2id"] = {names[i]: i for i in outputs}
    return made


def preprocessor(weights: Weights) -> dict[str, Any] | None:
    """transformers' config of what an image goes through, the run's own evaluation view.

    None where transformers has no such thing: it resizes by the shorter side and cuts out squares,
    of images that Pillow holds.
    """
    pixels, side = weights.pixels, weights.pixels.size[0]
    if pixels.channels not in (1, 3, 4) or set(pixels.size) != {side}:
        return None
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": pixels.channels == 3,
        "do_resize": True,
        "size": {"shortest_edge": resized_side(side, pixels.crop)},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(pixels.mean),
        "image_std": list(pixels.std),
    }


def _crop(images):
    """The share of the shorter side that a preprocessor of theirs keeps, if it cuts out a part."""
    size, crop = images.get("size"), images.get("crop_size")
    if not images.get("do_center_crop") or not isinstance(size, dict):
        return None
    sides = list(crop.values()) if isinstance(crop, dict) else [crop]
    whole = size.get("shortest_edge") or [size.get(name) for name in ("height", "width")]
    whole = whole if isinstance(whole, list) else [whole]
    if not sides or any(type(side) is not int or side < 1 for side in (*sides, *whole)):
        return None
    return min(1.0, min(sides) / min(whole))


def write(folder: Path, weights: Weights, about: dict[str, Any]) -> list[Path]:
    """Writes config, preprocessor and tensors; returns the files with tensors."""
    made = config(weights) | {"mae_jax": about}
    tensors = keymap.to_huggingface(weights.tensors)
    if weights.kind == "encoder":
        tensors = {name.removeprefix("vit."): value for name, value in tensors.items()}
    (folder / "config.json").write_text(json.dumps(made, indent=2) + "\n")
    images = preprocessor(weights)
    if images is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(images, indent=2) + "\n")
    formats.write_safetensors(folder / "model.safetensors", tensors)
    return [folder / "model.safetensors"]

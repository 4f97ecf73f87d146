"""A config's encoder and decoder: as arguments of the models, and adopted from another run."""

from typing import Any

from ml_collections import config_dict

from mae_jax.pixels import sides_of

# What a model is where neither a config nor what it starts from says it.
_USUAL = {
    "size": "base",
    "channels": 3,
    "norm_pix": True,
    "target": "pixels",
    "class_token": True,
    "class_tokens": 1,
    "mask_tokens_in_encoder": False,
}


def settled_model(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """A config's section `model`, a copy in which nothing that every model has is open."""
    model = config.model.copy_and_resolve_references()
    for name, value in _USUAL.items():
        if model[name] is None:
            model[name] = value
    return model


def dimension_arguments(config: config_dict.ConfigDict) -> dict[str, Any]:
    """The config's keyword arguments to `models.sizes.resolve` and to the models."""
    model = settled_model(config)
    names = (
        "size",
        "channels",
        "width",
        "depth",
        "heads",
        "decoder_width",
        "decoder_depth",
        "decoder_heads",
    )
    arguments = {name: model[name] for name in names}
    for name in ("image_size", "patch_size"):
        sides = sides_of(config) if name == "image_size" else model[name]
        arguments[name] = sides[0] if sides is not None and len(sides) == 1 else sides
    return arguments


def adopt_architecture(config: config_dict.ConfigDict, source: dict[str, Any]) -> None:
    """Sets the encoder's dimensions to those of the run whose resolved config is `source`.

    A size of images that the config says stays, as positions are resized to it. What it leaves
    open about images is taken over, the crop of evaluation where the size is the same.
    """
    if config.model.image_size is None:
        config.model.image_size = tuple(source["model"]["image_size"])
    names = ["size", "patch_size", "channels", "width", "depth", "heads"]
    for name in (*names, "class_token", "class_tokens"):
        value = source["model"][name]
        config.model[name] = tuple(value) if isinstance(value, list) else value
    names = ["pixels", "mean", "std", "nodata"]
    if _pair(config.model.image_size) == _pair(source["model"]["image_size"]):
        names.append("eval_crop")
    for name in names:
        if config.data[name] in (None, ()):
            value = source["data"].get(name)  # a record may be older than the key
            config.data[name] = tuple(value) if isinstance(value, list) else value


def fill_open(config: config_dict.ConfigDict, source: dict[str, Any]) -> None:
    """As `adopt_architecture`, where the config says nothing itself."""
    same_size = config.model.image_size is None or _pair(config.model.image_size) == _pair(
        source["model"]["image_size"]
    )
    if config.model.target is None and "pca_components" in source["model"]:
        config.model.pca_components = source["model"]["pca_components"]
    for section in ("model", "data"):
        for name, value in source[section].items():
            if name == "eval_crop" and not same_size:
                continue
            if config[section][name] in (None, ()):
                config[section][name] = tuple(value) if isinstance(value, list) else value


def _pair(sides):
    return sides[0], sides[-1]

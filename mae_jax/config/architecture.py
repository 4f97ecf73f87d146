"""A config's encoder and decoder: as arguments of the models, and adopted from another run."""

from typing import Any

from ml_collections import config_dict

from mae_jax.pixels import sides_of

# What a model is where neither a config nor what it starts from says it.
USUAL = {
    "size": "base",
    "channels": 3,
    "norm_pix": True,
    "target": "pixels",
    "class_token": True,
    "class_tokens": 1,
    "mask_tokens_in_encoder": False,
    "decoder_attention": "self",
}

# What is adopted of another run, or of weights.
_OF_ENCODER = (
    "size",
    "patch_size",
    "channels",
    "width",
    "depth",
    "heads",
    "class_token",
    "class_tokens",
)
_OF_MODEL = (
    *_OF_ENCODER,
    "image_size",
    "decoder_width",
    "decoder_depth",
    "decoder_heads",
    "norm_pix",
    "target",
    "mask_tokens_in_encoder",
    "decoder_attention",
)
_OF_DATA = ("pixels", "mean", "std", "nodata", "eval_crop")


def settled_model(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """A config's section `model`, a copy in which nothing that every model has is open."""
    model = config.model.copy_and_resolve_references()
    for name, value in USUAL.items():
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
    for name in _OF_ENCODER:
        value = source["model"][name]
        config.model[name] = tuple(value) if isinstance(value, list) else value
    names = list(_OF_DATA)
    if _pair(config.model.image_size) != _pair(source["model"]["image_size"]):
        names.remove("eval_crop")
    for name in names:
        if config.data[name] in (None, ()):
            value = source["data"].get(name)  # a record may be older than the key
            config.data[name] = tuple(value) if isinstance(value, list) else value


def fill_open(config: config_dict.ConfigDict, source: dict[str, Any]) -> None:
    """As `adopt_architecture`, of the whole model, where the config says nothing itself."""
    theirs, names = source["model"], list(_OF_DATA)
    if config.model.image_size is not None and _pair(config.model.image_size) != _pair(
        theirs["image_size"]
    ):
        names.remove("eval_crop")
    if config.model.target is None and theirs.get("target") == "pca":
        config.model.pca_components = theirs["pca_components"]
    if config.data.pixels == "uint8":
        names.remove("nodata")  # which only floats can mark
    for section, wanted in (("model", _OF_MODEL), ("data", names)):
        for name in wanted:
            if config[section][name] in (None, ()):
                value = source[section].get(name)  # a record may be older than the key
                config[section][name] = tuple(value) if isinstance(value, list) else value


def _pair(sides):
    return sides[0], sides[-1]

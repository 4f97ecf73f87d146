"""A config's encoder and decoder: as arguments of the models, and adopted from another run."""

from typing import Any

from ml_collections import config_dict

from mae_jax.pixels import sides_of


def dimension_arguments(config: config_dict.ConfigDict) -> dict[str, Any]:
    """The config's keyword arguments to `models.sizes.resolve` and to the models."""
    model = config.model
    names = (
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


def _pair(sides):
    return sides[0], sides[-1]

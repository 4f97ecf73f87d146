"""A config's encoder and decoder: as arguments of the models, and adopted from another run."""

from typing import Any

from ml_collections import config_dict


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
        sides = model[name]
        arguments[name] = sides[0] if sides is not None and len(sides) == 1 else sides
    return arguments


def adopt_architecture(config: config_dict.ConfigDict, source: dict[str, Any]) -> None:
    """Sets the encoder's dimensions to those of the run whose resolved config is `source`.

    The size of the images stays, as positions are resized to it. Mean and deviation of the pixels
    are adopted where the config leaves them open.
    """
    for name in ("size", "patch_size", "channels", "width", "depth", "heads", "class_token"):
        value = source["model"][name]
        config.model[name] = tuple(value) if isinstance(value, list) else value
    for name in ("mean", "std"):
        if not config.data[name]:
            config.data[name] = tuple(source["data"][name])

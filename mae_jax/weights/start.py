"""The encoder that `init_from` names, for a run to start from."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mae_jax.config import named
from mae_jax.config.architecture import adopt_architecture
from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.pixels import same_values
from mae_jax.train import workdir
from mae_jax.weights import hub, keymap
from mae_jax.weights.described import Weights
from mae_jax.weights.read import read


def _read(config) -> Weights:
    said = functools.partial(read, config.init_from, part="encoder", image_size=_sides(config))
    try:
        return said()
    except UsageError:
        if config.model.heads is None:
            raise
        # What the source does not say, the config's model section may.
        return said(heads=config.model.heads)


def _sides(config):
    sides = config.model.image_size
    return sides[0] if sides is not None and len(sides) == 1 else sides


def read_encoder(config) -> dict[str, Any]:
    """A tree for `train.state.with_encoder`: the positions resized to the config's images.

    Raises:
      UsageError: as `read`.
    """
    weights = _read(config).resized(_sides(config))
    tree: dict[str | int, Any] = {}
    for path, value in keymap.from_published(weights.tensors).items():
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value
    return {"params": tree, "tables": {}}


def pin(config, folders: Iterable[str | Path]) -> None:
    """Says in a config which commit its `init_from` is, where that is a name of the hub.

    What follows reads that commit, in every process, and notes it, whatever becomes of the name.

    Args:
      folders: work folders; where a run was begun in one of them from the same name, its commit is
        taken, and nothing is asked of the hub.

    Raises:
      UsageError: as `hub.pinned`.
    """
    if not named.is_name(config.init_from):
        return
    for folder in folders:
        noted = workdir.read_config(folder)["init_from"] if workdir.begun(folder) else None
        if named.same(config.init_from, noted):
            config.init_from = noted
            return
    config.init_from = hub.pinned(config.init_from)


def adopt(config, folder: str | Path) -> None:
    """Gives a config the architecture of what its `init_from` names, if it names anything.

    A run that was begun in the folder has noted it: then nothing else is read.

    Raises:
      UsageError: as `read`.
    """
    if config.init_from is None:
        return
    pin(config, [folder])
    if workdir.begun(folder):
        adopt_architecture(config, workdir.read_config(folder))
    else:
        theirs = architecture(config)
        _say_dimensions(config, theirs["model"])
        _check_pixels(config, theirs["data"])
        adopt_architecture(config, theirs)


def _say_dimensions(config, theirs):
    """Says which of an encoder's own dimensions are taken where a config has others.

    A config may be one for training from scratch, too, so that this is no mistake.
    """
    for name in ("patch_size", "width", "depth", "heads"):
        ours = config.model[name]
        if name == "patch_size" and ours is not None:
            ours = [ours[0], ours[-1]]
        if ours not in (None, theirs[name]):
            say(f"model.{name} is {theirs[name]}, that of {config.init_from}, and not {ours}")


def _check_pixels(config, theirs):
    """Another kind of pixels than the encoder was given needs statistics of its own."""
    data = config.data
    if data.pixels not in (None, theirs["pixels"]) and not (data.mean and data.std):
        raise UsageError(
            f"data.pixels is {data.pixels!r}, and {config.init_from!r} was given "
            f"{theirs['pixels']!r}; leave it out, or set data.mean and data.std for it"
        )
    for name in ("mean", "std"):
        if data[name] and not same_values(data[name], theirs[name]):
            say(
                f"data.{name} is {tuple(data[name])}, though {config.init_from} was given "
                f"{tuple(theirs[name])}"
            )


def architecture(config) -> dict[str, Any]:
    """The encoder that a config starts from, as a resolved config has it."""
    weights = _read(config)
    if weights.registers:
        raise UsageError(
            f"init_from {config.init_from!r} has {weights.registers} register tokens, with which "
            "nothing is trained here; its features can be had as they are: `mae-jax embed`, and "
            "`mae-jax probe --methods=logistic,knn`"
        )
    if weights.gelu != "erf":
        say(
            f"{config.init_from} was trained with GELU's tanh formula; here it is exact, which "
            "differs by at most 5e-4"
        )
    d = weights.dimensions
    return {
        "model": {
            "size": "base",
            "image_size": list(d.image_size),
            "patch_size": list(d.patch_size),
            "channels": d.channels,
            "width": d.width,
            "depth": d.depth,
            "heads": d.heads,
            "class_token": weights.class_token,
            "class_tokens": max(1, weights.class_tokens),
        },
        "data": {
            "pixels": weights.pixels.kind,
            "mean": list(weights.pixels.mean),
            "std": list(weights.pixels.std),
            "eval_crop": weights.pixels.crop,
            "nodata": weights.pixels.nodata,
        },
    }

"""What `init_from` names, for a run to start from: what a config adopts of it, and its tree."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mae_jax import config as config_lib
from mae_jax.config import named
from mae_jax.config.architecture import adopt_architecture, fill_open
from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.models import sizes, targets
from mae_jax.pixels import same_values
from mae_jax.train import workdir
from mae_jax.weights import adapt, hub, keymap
from mae_jax.weights.described import Weights
from mae_jax.weights.read import read

_ENCODER = ("width", "depth", "heads")
_DECODER = ("decoder_width", "decoder_depth", "decoder_heads")
_OF_SIZE = (*_ENCODER, "patch_size", *_DECODER)  # a row of `sizes.SIZES`
# What a run may do otherwise than its source did, and a line says.
_LEARNED = ("mask_ratio", "sampling", "mask_unit", "loss_on", "decode_ratio")
# Of a source that has a decoder; to go on with others needs a new one.
_DECODER_KEYS = (*_DECODER, "mask_tokens_in_encoder", "decoder_attention")


def read_weights(config) -> dict[str, Any]:
    """A tree for `train.state.with_weights`, made to fit the config's images and patches.

    In pre-training it has the decoder where the source does, and the layer that predicts where it
    predicts what the config says.

    Raises:
      UsageError: as `read`, or the weights cannot be made to fit.
    """
    weights, patch = _taken(config), None
    if _reconstructs(config):
        patch = config.model.patch_size
    weights = adapt.fitted(weights, _sides(config.model.image_size), _sides(patch))
    return {"params": keymap.tree(weights.tensors), "tables": {}}


def pin(config, folders: Iterable[str | Path], key: str = "init_from") -> None:
    """Says in a config which commit its `init_from` is, where that is a name of the hub.

    What follows reads that commit, in every process, and notes it, whatever becomes of the name.

    Args:
      folders: work folders; where a run was begun in one of them from the same name, its commit is
        taken, and nothing is asked of the hub.
      key: another that names a SOURCE.

    Raises:
      UsageError: as `hub.pinned`.
    """
    source, settled = config_lib.flatten(config.to_dict())[key], None
    if not named.is_name(source):
        return
    for folder in folders:
        begun = workdir.read_config(folder) if workdir.begun(folder) else {}
        noted = config_lib.flatten(begun).get(key)
        if named.same(source, noted):
            settled = noted
            break
    config.update_from_flattened_dict({key: settled or hub.pinned(source)})


def adopt(config, folder: str | Path | None = None) -> None:
    """Gives a config what it leaves open of the model and the pixels that `init_from` names.

    A classifier's encoder is that of the source, whatever the config says. Pre-training may go on
    with other images, patches and channels, and with another target.

    Args:
      config: changed in place; one that starts from nothing stays as it is.
      folder: of a run that may have been begun: it has noted all, and nothing else is read.

    Raises:
      UsageError: as `read`, or the config contradicts the source.
    """
    if config.init_from is None:
        return
    if folder is not None:
        pin(config, [folder])
    if folder is not None and workdir.begun(folder):
        noted = workdir.read_config(folder)
        (fill_open if _reconstructs(config) else adopt_architecture)(config, noted)
        return
    weights = _taken(config)
    _check_can_be_trained(config, weights)
    if weights.unfinished:
        say(weights.unfinished)
    theirs = _settings(config, weights)
    if _reconstructs(config):
        _check_same(config, theirs["model"], weights)
    else:
        _say_dimensions(config, theirs["model"])
    _check_pixels(config, theirs["data"])
    (fill_open if _reconstructs(config) else adopt_architecture)(config, theirs)


def _reconstructs(config) -> bool:
    return config.train.objective == "reconstruct"


def _taken(config) -> Weights:
    """What a config takes of its source, for the channels that it has."""
    weights = _read(config)
    if _predicts_other(config, weights):
        # What is left out need not fit: `adapt` refuses what it cannot change.
        left = ("decoder_pred.", "target_")
        tensors = {n: t for n, t in weights.tensors.items() if not n.startswith(left)}
        weights = dataclasses.replace(weights, tensors=tensors)
    return _channels(config, weights)


def _read(config) -> Weights:
    if not named.is_name(config.init_from) and not Path(config.init_from).exists():
        raise UsageError(f"init_from {config.init_from!r} does not exist")
    part = "full" if _reconstructs(config) and config.init_part != "encoder" else "encoder"
    sides, given = _sides(config.model.image_size), {}
    # What the source does not say, the config's model section may.
    names = [n for n in ("heads", "decoder_heads", "norm_pix") if config.model[n] is not None]
    for name in (*names, None):
        try:
            weights = read(config.init_from, part=part, image_size=sides, **given)
            break
        except UsageError:
            if name is None:
                raise
            given[name] = config.model[name]
    if weights.kind == "classifier":
        weights = weights.encoder()
    if config.init_part == part == "full" and weights.kind != "full":
        raise UsageError(
            f"init_part is 'full', and {config.init_from!r} holds an encoder alone; leave it out "
            "for a new decoder"
        )
    return weights


def _sides(sides):
    return sides[0] if sides is not None and len(sides) == 1 else sides


def _channels(config, weights: Weights) -> Weights:
    """For the channels that a config says; pre-training, and `init_channels`, may change them."""
    turn, wanted = tuple(config.init_channels), config.model.channels
    theirs = weights.dimensions.channels
    if turn:
        if wanted not in (None, len(turn)):
            raise UsageError(
                f"init_channels {turn} is for {len(turn)} channels, and model.channels is {wanted}"
            )
        return adapt.with_channels(weights, len(turn), turn)
    if not _reconstructs(config) or wanted in (None, theirs):
        return weights
    if wanted != 1:
        example = tuple(min(c, theirs - 1) for c in range(wanted))
        raise UsageError(
            f"model.channels is {wanted}, and {config.init_from!r} has {theirs}; say which of its "
            f"each starts from, --config.init_channels={example} for instance, or -1 for their mean"
        )
    return adapt.with_channels(weights, 1)


def _predicts_other(config, weights: Weights) -> bool:
    """Whether a config predicts other numbers of a patch than a source does."""
    target = config.model.target
    if target is None and weights.target == "features" and config.train.teacher is not None:
        target = "features"
    if weights.kind != "full" or target is None:
        return False
    if target not in targets.TARGETS:  # codes of some tokenizer: of which, no source says
        return True
    if target == weights.target == "features":  # of another teacher, maybe
        given = read(config.train.teacher, part="encoder").encoder().sha256()
        return weights.origin.get("teacher_sha256") != given
    if target != weights.target:
        return True
    if target != "pca":
        return False
    # Of patches that are normalised otherwise, the principal directions are others.
    other = config.model.norm_pix not in (None, weights.norm_pix)
    return other or config.model.pca_components != _components(weights)


def _components(weights):
    return len(weights.tensors["target_components"])


def _check_can_be_trained(config, weights):
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
    if weights.target == "tokens" and config.model.target is None and weights.kind == "full":
        raise UsageError(
            f"{config.init_from!r} predicts what a tokenizer gives; name that, "
            "--config.model.target=FILE.py:NAME, or --config.model.target=pixels for a new layer "
            "that predicts these"
        )
    unnamed = config.model.target is None and config.train.teacher is None
    if weights.target == "features" and weights.kind == "full" and unnamed:
        raise UsageError(
            f"{config.init_from!r} predicts the tokens of a teacher; name one, "
            "--config.train.teacher=SOURCE, or --config.model.target=pixels for a new layer that "
            "predicts these"
        )


def _check_same(config, theirs, weights):
    """Raises UsageError where pre-training is to go on with another network than the source's."""
    model, source = config.model, repr(config.init_from)
    given = {name: model[name] for name in (*_ENCODER, *_DECODER)}
    ours = dict(given)
    if model.size is not None:
        theirs_of_size = zip(_OF_SIZE, sizes.SIZES[model.size], strict=True)
        ours = {n: value if ours.get(n) is None else ours[n] for n, value in theirs_of_size}
    names = [*_ENCODER, "class_token", "class_tokens"]
    names += _DECODER_KEYS if weights.kind == "full" else ()
    for name in names:
        value = ours[name] if name in ours else model[name]
        if value in (None, theirs[name]):
            continue
        said = f"model.{name} is {value}"
        if name in given and given[name] is None:
            said = f"model.size {model.size!r} has {name} {value}"
        new = ", or give --config.init_part=encoder for a new decoder"
        raise UsageError(
            f"{said}, and {source} has {theirs[name]}; leave that to the weights, as "
            "configs/adapt.py does" + (new if name in _DECODER_KEYS else "")
        )
    patch = model.patch_size
    if patch is not None and (patch[0], patch[-1]) != tuple(theirs["patch_size"]):
        say(f"patches of {config.init_from}, {theirs['patch_size']}, are resized to {list(patch)}")
    if weights.kind != "full":
        return
    for name in ("norm_pix", "target", *_LEARNED):
        value = getattr(weights, name)
        if model[name] not in (None, value):
            say(f"model.{name} is {model[name]}, and {config.init_from} was trained with {value}")


def _say_dimensions(config, theirs):
    """Says which of an encoder's own dimensions are taken where a config has others.

    A config may be one for training from scratch, too, so that this is no mistake.
    """
    for name in ("patch_size", "channels", "width", "depth", "heads"):
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


def _settings(config, weights: Weights) -> dict[str, Any]:
    """What of a source a config may adopt, as a resolved config has it."""
    d = weights.dimensions
    model = {
        "size": _size(d),
        "image_size": list(d.image_size),
        "patch_size": list(d.patch_size),
        "channels": d.channels,
        "width": d.width,
        "depth": d.depth,
        "heads": d.heads,
        "class_token": weights.class_token,
        "class_tokens": max(1, weights.class_tokens),
    }
    if weights.kind == "full":
        model |= {name: getattr(d, name) for name in _DECODER}
        model |= {
            name: getattr(weights, name)
            for name in ("norm_pix", "target", "mask_tokens_in_encoder", "decoder_attention")
        }
        if "target_components" in weights.tensors:
            model["pca_components"] = _components(weights)
    return {
        "model": model,
        "data": {
            "pixels": weights.pixels.kind,
            "mean": list(weights.pixels.mean),
            "std": list(weights.pixels.std),
            "eval_crop": weights.pixels.crop,
            "nodata": weights.pixels.nodata,
        },
    }


def _size(d) -> str:
    """The size whose decoder a new one is like."""
    alike = [
        name
        for name, (width, depth, *_) in sizes.SIZES.items()
        if (width, depth) == (d.width, d.depth)
    ]
    return alike[0] if alike else "base"

"""What may change when a run is resumed, because its state and the order of its data stay true."""

import json
import os
from collections.abc import Collection
from typing import Any

from mae_jax.config import named
from mae_jax.config.reading import flatten, unknown_key
from mae_jax.config.schema import all_keys
from mae_jax.errors import UsageError

# Keys, and whole sections, whose change leaves a run the same run, each with the reason. With
# another value of any other key it would be a different one, which needs another work folder.
MAY_CHANGE = {
    "model.dtype": "of the computation; what is kept is float32, and auto follows the devices too",
    "model.attention": "the same sums in another order",
    "model.remat": "the same numbers, computed again instead of stored",
    "model.scan": "parameters lie the same way",
    "data.name": "what it names is compared by its fingerprint",
    "data.folder": "what it holds is compared by its fingerprint: it may have moved",
    "data.mixture": "the sets and their shares are in the fingerprint",
    "data.dir": "where tfds keeps what data.name names",
    "data.eval_split": "of measures only",
    "data.eval_crop": "of measures only",
    "data.workers": "who decodes; batches are the same",
    "data.cache": "when images are decoded; batches are the same",
    "data.broken_share": "how many may be replaced, not by what",
    "train.epochs": "how long; the schedule is that of the new length, which a line says",
    "train.steps": "as train.epochs",
    "train.accumulate": "the gradient of the same batch, in other parts",
    "train.max_skipped": "when the run is given up; its steps are the same",
    "train.check_replicas_every": "when copies are compared",
    "parallel": "where things lie; batches, masks and state do not depend on it",
    "checkpoint": "when it is saved",
    "log": "what is told of it",
}


# Keys that the shapes of a state follow from: with others, none can be read.
SHAPES = {
    *(f"model.{name}" for name in (
        "size", "image_size", "patch_size", "channels", "width", "depth", "decoder_width",
        "decoder_depth", "target", "pca_components", "class_token", "class_tokens",
        "mask_tokens_in_encoder",
    )),
    "train.objective", "train.optimizer", "train.trained_blocks",
}  # fmt: skip


# What `--allow_change` calls the images themselves; all else it calls by the name of the key.
DATA = "data"


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    """The keys that make two resolved configs different runs, each with `key: old -> new`."""
    return {
        change[0]: _line(*change)
        for change in _changed(old, new)
        if not _may_change(change[0]) and not _same_path(*change)
    }


def check_allowed(names: Collection[str]) -> None:
    """Raises UsageError unless each is `DATA`, or a key that may not change as it is."""
    known = dict(all_keys())
    for name in names:
        if name == DATA:
            continue
        if name not in known:
            raise unknown_key(name)
        if _may_change(name):
            raise UsageError(f"--allow_change={name} is not needed: {name} may change as it is")


def _may_change(name):
    return bool({name, name.split(".")[0]} & MAY_CHANGE.keys())


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lines `key: old -> new` for all that differs between two trees of dictionaries."""
    return [_line(*change) for change in _changed(old, new)]


def _changed(old, new):
    old, new = (flatten(json.loads(json.dumps(tree))) for tree in (old, new))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)


def _same_path(name, old, new) -> bool:
    """Whether it is a source of weights, by another path or as it was named."""
    if name not in ("init_from", "train.teacher") or None in (old, new):
        return False
    return named.same(new, old) or os.path.realpath(old) == os.path.realpath(new)


def _line(name, old, new):
    return f"{name}: {old!r} -> {new!r}"

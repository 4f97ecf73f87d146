"""The state a run starts with: that of its latest checkpoint, or a new one."""

from collections.abc import Callable, Collection
from typing import Any

from mae_jax import config as config_lib
from mae_jax.errors import UsageError
from mae_jax.parallel import Layout
from mae_jax.train import measured_tables, state
from mae_jax.train.checkpoints import checkpoint
from mae_jax.train.objectives import Reconstruct
from mae_jax.train.task import Task
from mae_jax.train.teacher import Read

# What `identity` names, as `--allow_change` calls it.
_TEACHER = "teacher"
_KEYS = {
    "data": config_lib.DATA,
    "batch_size": "data.batch_size",
    "seed": "seed",
    _TEACHER: "train.teacher",
}


def restore(
    manager, template: state.TrainState, identity: dict, allowed: Collection[str] = ()
) -> tuple[state.TrainState, dict[str, Any], list[str]] | None:
    """The state of the latest checkpoint and its position; None without one.

    Args:
      manager: of the run's checkpoints.
      template: the state's shapes and shardings.
      identity: what decides what every step sees, as `identity` gives it.
      allowed: what of that may be other than it was, as `_KEYS` calls it.

    Returns:
      State, position, and what is other of the data, as lines `name: old -> new`.

    Raises:
      UsageError: the steps to come would see other images than those that were planned, or learn
        from another teacher.
    """
    restored = checkpoint.restore(manager, template)
    if restored is None:
        return None
    resumed, position = restored
    found = {
        name: config_lib.changes({name: position.get(name, value)}, {name: value})
        for name, value in identity.items()
    }
    refused = [name for name in found if found[name] and _KEYS[name] not in allowed]
    if _TEACHER in refused:
        raise UsageError(
            "the teacher's weights are other than those that the run has learned from; give these "
            "back, or another --workdir; to learn from the new ones from here on, name them by "
            "another path, with --allow_change=train.teacher"
        )
    found.pop(_TEACHER, None)
    if refused:
        keys = ",".join(_KEYS[name] for name in refused)
        raise UsageError(
            "the data has changed since the run was interrupted, so that its order would "
            "be another; give back what there was, or another --workdir, or "
            f"--allow_change={keys} to go on in the new order. Different are: "
            + "; ".join(line for name in refused for line in found[name])
        )
    return resumed, position, [line for lines in found.values() for line in lines]


def create(
    task: Task,
    layout: Layout,
    read_weights: Callable[[Any], dict[str, Any]],
    teacher: Any,
    say: Callable[[str], None],
) -> tuple[state.TrainState, str | None]:
    """A new state, with what a run takes of what `init_from` names, if it names anything.

    Args:
      teacher: arrays of the objective's, as of `step.train_step`.
      say: as of `measured_tables.completed`.

    Returns:
      The state, and a line about where it comes from; None of pre-training from scratch.

    Raises:
      UsageError: that encoder cannot be read, has other shapes, or is not finite.
    """
    config = task.config
    fresh = state.create(task.objective, task.recipe, config.seed, layout)
    fresh = measured_tables.completed(task, layout, fresh, teacher, say)
    if config.init_from is None:
        if config.train.objective not in ("classify", "probe"):
            return fresh, None
        return fresh, "starts from random parameters, as init_from is not set"
    source, parts = read_weights(config), ["encoder"]
    if isinstance(task.objective, Reconstruct) and config.init_part != "encoder":
        parts += ["decoder", "target"]
    source = {
        kind: {part: source[kind][part] for part in parts if part in source[kind]}
        for kind in ("params", "tables")
    }
    try:
        started, new = state.with_weights(fresh, source, task.recipe)
    except ValueError as error:
        raise UsageError(f"init_from {config.init_from!r}: {error}") from None
    if not state.is_finite(started):
        raise UsageError(f"init_from {config.init_from!r} has weights that are not finite numbers")
    taken = " and ".join(part for part in ("encoder", "decoder") if part in source["params"])
    line = f"started from {config.init_from}, its {taken}; new: {', '.join(new) or 'nothing'}"
    return started, line


def identity(config, fingerprint, teacher: Read | None = None) -> dict[str, Any]:
    """What decides which images every step sees, and what it is taught of them.

    A checkpoint carries it along.
    """
    found = {"data": fingerprint, "batch_size": config.data.batch_size, "seed": config.seed}
    return found if teacher is None else found | {_TEACHER: teacher.sha256}

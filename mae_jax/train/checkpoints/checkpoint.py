"""Orbax checkpoints, behind a few functions."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from mae_jax import hosts, storage
from mae_jax.data.progress import say
from mae_jax.errors import NoUsableCheckpoint, StorageFaltered, UsageError
from mae_jax.train import workdir
from mae_jax.train.checkpoints import manifest, retention, usable
from mae_jax.train.checkpoints.saving import Manager, manager_of, room
from mae_jax.train.optimizer import joined
from mae_jax.train.state import TrainState


def open_manager(folder: Path, **settings: Any) -> Manager:
    """The checkpoints below `folder`; saving is asynchronous and atomic.

    Where it waits for a save that found no room, it raises NoSpace.

    Args:
      settings: of the section `checkpoint` of a config: which are kept.
    """
    return storage.patiently(
        f"opening {folder}",
        lambda: manager_of(
            folder,
            preservation_policy=retention.policy(settings),
            create=True,
            cleanup_tmp_directories=True,
        ),
        tries=1 if hosts.several() else storage.TRIES,
    )


def save(manager: Manager, state: TrainState, position: dict, config: dict) -> None:
    """Starts writing a checkpoint of `state`, named by its step.

    Args:
      position: of the data; `measures` in it, what was measured of this state, decide what is best.

    Raises:
      NoSpace: the disk is full; perhaps since the save before, which is only known now.
    """
    step = int(state.step)
    path = Path(manager.directory) / str(step)
    if hosts.is_first() and path.exists() and step not in manager.all_steps():
        say(f"{path} is no checkpoint of a run; it is now {manifest.set_aside(path, 'foreign')}")
    with room(manager):
        saved = manager.save(
            step,
            metrics=position.get("measures"),
            args=ocp.args.Composite(
                model=ocp.args.StandardSave(_model(state)),
                optimizer=ocp.args.StandardSave({"step": state.step, "opt_state": state.opt_state}),
                position=ocp.args.JsonSave(position | {"layout": usable.LAYOUT, "manifest": True}),
                config=ocp.args.JsonSave(config),
            ),
        )
    if not saved:
        raise RuntimeError(f"the checkpoint of step {step} was not saved")


def restore(
    manager: ocp.CheckpointManager, template: TrainState
) -> tuple[TrainState, dict[str, Any]] | None:
    """The latest whole state and its data position, or None where nothing was saved yet.

    Damaged checkpoints that are later are set aside, if there is a whole one.

    Args:
      template: shapes, dtypes and shardings to restore into.

    Raises:
      NoUsableCheckpoint: there are some, but all are damaged, or cannot be read, or lie as another
        version has them. All stay where they are.
    """
    folder, found, refused = Path(manager.directory), None, {}
    _name_foreign(folder)
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            found = _restored(manager, step, template)
            break
        except usable.Damaged as error:
            refused[step] = str(error)
    if found is None and not refused:
        aside = manifest.damaged(folder)
        if aside:
            raise NoUsableCheckpoint(
                f"all checkpoints in {folder} are damaged and were set aside ({', '.join(aside)}); "
                "give another --workdir to begin anew"
            )
        return None
    if found is None:
        raise NoUsableCheckpoint(usable.none_whole(folder, refused))
    if refused:
        hosts.barrier("damaged checkpoints are known")
        for damaged, why in refused.items():
            if hosts.is_first():
                aside = manifest.set_aside(folder / str(damaged), "damaged")
                say(f"checkpoint {damaged} is damaged and set aside as {aside}: {why}")
        hosts.barrier("damaged checkpoints are set aside")
        manager.reload()
    return found


def _restored(manager, step, template):
    """Raises usable.Damaged, in all processes."""
    path = Path(manager.directory) / str(step)
    known = usable.verified(path)
    items = {
        "model": _model(template),
        "optimizer": {"step": template.step, "opt_state": template.opt_state},
    }
    wanted = {name: ocp.args.StandardRestore(tree) for name, tree in items.items()}
    try:
        restored = storage.patiently(
            f"reading {path}",
            lambda: manager.restore(
                step, args=ocp.args.Composite(**wanted, position=ocp.args.JsonRestore())
            ),
            tries=1 if hosts.several() else storage.TRIES,
        )
    except StorageFaltered:
        raise
    except Exception as error:
        usable.check_fits(manager, step, items, error)
        if known and not isinstance(error, OSError | ValueError | KeyError):
            raise  # of what computes
        # Of several processes one may fail alone, and the others wait for it.
        if not known and not hosts.several():
            raise usable.Damaged(storage.one_line(error)) from error
        none = usable.none_whole(path.parent, {step: storage.one_line(error)})
        raise NoUsableCheckpoint(none) from error
    usable.check_layout(restored.position, step, path.parent)
    usable.check_known(known, restored.position, step)
    return TrainState(
        restored.optimizer["step"],
        restored.model["params"],
        restored.model["tables"],
        restored.optimizer["opt_state"],
        restored.model.get("ema"),
    ), restored.position


def _name_foreign(folder):
    for name in manifest.foreign(folder):
        if hosts.is_first():
            say(f"{folder / name} is no checkpoint of a run, and is left alone")


def _model(state):
    model = {"params": state.params, "tables": state.tables}
    return model if state.ema is None else model | {"ema": state.ema}


def read_model(run: str, step: int | str | None = None) -> dict[str, Any]:
    """`params` and `tables` of a work folder's checkpoint, as numpy arrays.

    Where the run keeps a moving average of its parameters, that is what is read. Nothing in the
    folder is changed.

    Args:
      run: the work folder.
      step: which; "best" by the measure that the run keeps it for; the latest whole one by default.

    Returns:
      Those two, its `step`, and its data `position`.

    Raises:
      UsageError: it is no work folder, or has no such checkpoint.
      NoUsableCheckpoint: it is damaged, or all are; or its parameters lie as another version of
        this package has them.
    """
    folder = Path(run).absolute() / "checkpoints"
    if not folder.is_dir():
        raise UsageError(f"{run!r} is not the work folder of a run: it has no checkpoints/")
    _name_foreign(folder)
    steps = manifest.steps(folder)
    if step == "best":
        step = _best(run, folder, steps)
    if step is not None and step not in steps:
        raise UsageError(f"{run!r} has no checkpoint of step {step}; it has {steps}")
    refused: dict[int, str] = {}
    # Listed anew every time: a run that goes on writes new ones and removes old ones.
    while left := [s for s in manifest.steps(folder) if s not in refused and step in (None, s)]:
        latest = left[-1]
        try:
            model = _read(folder, latest)
        except usable.Damaged as error:
            refused[latest] = str(error)
            continue
        for damaged, why in refused.items():
            if (folder / str(damaged)).exists():  # the run may have removed it meanwhile
                say(f"checkpoint {damaged} in {folder} is damaged: {why}; {latest} is read instead")
        return model
    if refused:
        raise NoUsableCheckpoint(usable.none_whole(folder, refused))
    raise UsageError(f"{run!r} has no finished checkpoint")


def _best(run, folder, steps):
    measure = workdir.read_config(run).get("checkpoint", {}).get("keep_best")
    if measure is None:
        raise UsageError(
            f"{run!r} keeps no best checkpoint: checkpoint.keep_best is not set; it has {steps}"
        )
    step = retention.best(folder, steps, measure)
    if step is None:
        raise UsageError(f"{run!r} has no checkpoint whose {measure} was measured")
    return step


def _read(folder, step):
    known = manifest.has_manifest(folder / str(step))
    if known and (why := manifest.damage(folder / str(step))):
        raise usable.Damaged(why)
    try:
        restored = storage.patiently(
            f"reading {folder / str(step)}", lambda: arrays(folder, step, "model")
        )
    except Exception as error:
        if isinstance(error, StorageFaltered):
            raise
        if known:  # as it was saved: the one before may be no better, and none is damaged
            none = usable.none_whole(folder, {step: storage.one_line(error)})
            raise NoUsableCheckpoint(none) from error
        raise usable.Damaged(storage.one_line(error)) from error
    usable.check_layout(restored.position, step, folder)
    usable.check_known(known, restored.position, step)
    model = _whole_number_keys(jax.tree.map(np.asarray, restored.model))
    if "ema" in model:
        model["params"] = joined(model["params"], model.pop("ema"))
    return model | {"step": step, "position": restored.position}


def arrays(folder: Path, step: int, *items: str) -> ocp.args.Composite:
    """Items of a checkpoint as they lie there, on one device, and its `position`; not verified."""
    with _silent(), manager_of(folder, read_only=True) as manager:
        shapes = manager.item_metadata(step)
        one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = {
            name: ocp.args.StandardRestore(
                jax.tree.map(
                    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one_device),
                    shapes[name],
                )
            )
            for name in items
        }
        return manager.restore(
            step, args=ocp.args.Composite(**wanted, position=ocp.args.JsonRestore())
        )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without Orbax's warnings that what is opened to be read can only be read."""
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _whole_number_keys(tree):
    if not isinstance(tree, dict):
        return tree
    return {
        int(key) if str(key).isdigit() else key: _whole_number_keys(value)
        for key, value in tree.items()
    }

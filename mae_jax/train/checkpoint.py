"""Orbax checkpoints, behind a few functions."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from mae_jax.errors import NoUsableCheckpoint, UsageError
from mae_jax.train.optimizer import joined
from mae_jax.train.state import TrainState

# Raised whenever parameters are stored otherwise under the same names and shapes, which no reader
# could see. 3: queries, keys and values are stacked.
_LAYOUT = 3


def open_manager(folder: Path, keep: int) -> ocp.CheckpointManager:
    """The checkpoints below `folder`; saving is asynchronous and atomic."""
    return _manager(folder, max_to_keep=keep, create=True, cleanup_tmp_directories=True)


def _manager(folder, **options):
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(**options),
        item_handlers={
            "model": ocp.StandardCheckpointHandler(),
            "optimizer": ocp.StandardCheckpointHandler(),
            "position": ocp.JsonCheckpointHandler(),
            "config": ocp.JsonCheckpointHandler(),
        },
    )


def save(manager: ocp.CheckpointManager, state: TrainState, position: dict, config: dict) -> None:
    """Starts writing a checkpoint of `state`, named by its step."""
    step = int(state.step)
    saved = manager.save(
        step,
        args=ocp.args.Composite(
            model=ocp.args.StandardSave(_model(state)),
            optimizer=ocp.args.StandardSave({"step": state.step, "opt_state": state.opt_state}),
            position=ocp.args.JsonSave(position | {"layout": _LAYOUT}),
            config=ocp.args.JsonSave(config),
        ),
    )
    if not saved:
        raise RuntimeError(f"the checkpoint of step {step} was not saved")


def restore(
    manager: ocp.CheckpointManager, template: TrainState
) -> tuple[TrainState, dict[str, Any]] | None:
    """The latest state and data position, or None where nothing was saved yet.

    Args:
      template: shapes, dtypes and shardings to restore into.

    Raises:
      NoUsableCheckpoint: there is one, but it cannot be read, or lies as another version has it.
    """
    step = manager.latest_step()
    if step is None:
        return None
    try:
        restored = manager.restore(
            step,
            args=ocp.args.Composite(
                model=ocp.args.StandardRestore(_model(template)),
                optimizer=ocp.args.StandardRestore(
                    {"step": template.step, "opt_state": template.opt_state}
                ),
                position=ocp.args.JsonRestore(),
            ),
        )
    except (OSError, ValueError, KeyError) as error:
        raise NoUsableCheckpoint(
            f"checkpoint {step} in {manager.directory} cannot be restored: {error}"
        ) from error
    _check_layout(restored.position, step, manager.directory)
    state = TrainState(
        restored.optimizer["step"],
        restored.model["params"],
        restored.model["tables"],
        restored.optimizer["opt_state"],
        restored.model.get("ema"),
    )
    return state, restored.position


def _model(state):
    model = {"params": state.params, "tables": state.tables}
    return model if state.ema is None else model | {"ema": state.ema}


def read_model(workdir: str, step: int | None = None) -> dict[str, Any]:
    """`params` and `tables` of a work folder's checkpoint, as numpy arrays.

    Where the run keeps a moving average of its parameters, that is what is read.

    Args:
      workdir: the work folder.
      step: which; the latest by default.

    Returns:
      Those two, its `step`, and its data `position`.

    Raises:
      UsageError: it is no work folder, or has no such checkpoint.
      NoUsableCheckpoint: its parameters lie as another version of this package has them.
    """
    folder = Path(workdir).absolute() / "checkpoints"
    if not folder.is_dir():
        raise UsageError(f"{workdir!r} is not the work folder of a run: it has no checkpoints/")
    with _silent(), _manager(folder, read_only=True) as manager:
        steps = sorted(manager.all_steps())
        if not steps:
            raise UsageError(f"{workdir!r} has no finished checkpoint")
        step = steps[-1] if step is None else step
        if step not in steps:
            raise UsageError(f"{workdir!r} has no checkpoint of step {step}; it has {steps}")
        shapes = manager.item_metadata(step)["model"]
        one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        template = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one_device), shapes
        )
        restored = manager.restore(
            step,
            args=ocp.args.Composite(
                model=ocp.args.StandardRestore(template), position=ocp.args.JsonRestore()
            ),
        )
    _check_layout(restored.position, step, folder)
    model = _whole_number_keys(jax.tree.map(np.asarray, restored.model))
    if "ema" in model:
        model["params"] = joined(model["params"], model.pop("ema"))
    return model | {"step": step, "position": restored.position}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without Orbax's warnings that what is opened to be read can only be read."""
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _check_layout(position, step, folder):
    found = position.get("layout", 1)
    if found != _LAYOUT:
        raise NoUsableCheckpoint(
            f"checkpoint {step} in {folder} has its parameters in layout {found}, and this version "
            f"reads {_LAYOUT}; use the version of mae_jax that wrote it, or train again"
        )


def _whole_number_keys(tree):
    if not isinstance(tree, dict):
        return tree
    return {
        int(key) if str(key).isdigit() else key: _whole_number_keys(value)
        for key, value in tree.items()
    }

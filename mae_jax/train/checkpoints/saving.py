"""How Orbax writes checkpoints here: with a manifest, beside what is not ours, on a full disk."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mae_jax import hosts, storage
from mae_jax.errors import NoSpace
from mae_jax.train.checkpoints import manifest, retention

# Of an array that lies whole on several devices, each writes a part if that is so large.
_PART = 2**20
_WRITTEN = (int, float, np.number, np.ndarray, str, jax.Array)


def _arrays() -> ocp.StandardCheckpointHandler:
    """Writes arrays as Orbax does, in fewer parts.

    By default every device writes its part of all that lies on several, biases too: thousands of
    slices, each a program of its own, that take longer than what they save.
    """
    usual = {type: ocp.type_handlers.get_type_handler(type) for type in _WRITTEN}
    usual[jax.Array] = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=_PART)
    registry = ocp.type_handlers.create_type_handler_registry(*usual.items())
    handler = ocp.StandardCheckpointHandler()
    handler._impl = ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
    return handler


class _Sealed(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A checkpoint's folder while it is written; its manifest is there before it has its name.

    Process 0 finalises it, when all processes have written their parts, in the thread that saves.
    """

    async def finalize(self) -> None:
        if not self._final_path.name.isdigit():  # an item within a checkpoint
            await super().finalize()
            return
        final = self._final_path
        # Orbax writes its last files and renames in one go: it is given a name between, which it
        # still takes for a temporary one.
        self._final_path = final.with_name(f"{self._tmp_path.name}-sealed")
        await super().finalize()
        manifest.write(Path(self._final_path))
        self._final_path.rename(final)
        self._final_path = final


class _Steps(ocp.path.step.NameFormat):
    """Checkpoints by their step; what only has such a name is not listed."""

    def __init__(self):
        self._any = ocp.path.step.standard_name_format()

    def build_name(self, step):
        return self._any.build_name(step)

    def find_step(self, base_path, step):
        return self._any.find_step(base_path, step)

    def find_all(self, base_path):
        found = self._any.find_all(base_path)
        return (entry for entry in found if manifest.is_checkpoint(Path(entry.path)))


class Manager(ocp.CheckpointManager):
    """Orbax's, which says at once that a save in the background has failed.

    Attributes:
      failure: why the latest failed, from when it did; None again once somebody has seen to it.
    """

    failure: Exception | None = None

    def wait_until_finished(self):
        with room(self):
            super().wait_until_finished()

    def metrics(self, step):
        return retention.measures(Path(self.directory) / str(step))

    def _wait_for_checkpointers(self):  # in the thread that saves
        try:
            super()._wait_for_checkpointers()
        except Exception as error:
            self.failure = error
            raise


def manager_of(folder: Path, **options: Any) -> Manager:
    """Of the checkpoints in a folder; `options` are Orbax's."""
    return Manager(
        folder,
        options=ocp.CheckpointManagerOptions(
            step_name_format=_Steps(), temporary_path_class=_Sealed, **options
        ),
        item_handlers={
            "model": _arrays(),
            "optimizer": _arrays(),
            "position": ocp.JsonCheckpointHandler(),
            "config": ocp.JsonCheckpointHandler(),
        },
    )


@contextlib.contextmanager
def room(manager: Manager) -> Iterator[None]:
    """Turns a full disk into NoSpace, and removes what was begun to be written."""
    try:
        yield
    except Exception as error:
        if not storage.is_full(error):
            raise
        raise no_space(manager) from error


def no_space(manager: Manager) -> NoSpace:
    """The error of a full disk; what was begun to be written is removed."""
    forget_unfinished(manager)
    steps = manifest.steps(Path(manager.directory))  # not the manager's, which forgets some
    left = f"that of step {steps[-1]} is whole" if steps else "there is none yet"
    return NoSpace(
        f"no room for a checkpoint in {manager.directory}; {left}; make room, and the same "
        "command resumes"
    )


def forget_unfinished(manager: Manager) -> None:
    """Removes what a failed save has left, and lets the manager see what is there.

    Until then it believes that the checkpoint is there, and those gone that it would replace.
    """
    if hosts.is_first():
        _remove_unfinished(Path(manager.directory))
    manager.reload()


def _remove_unfinished(folder: Path) -> None:
    for _ in range(50):  # other files of the same save may still be on their way
        unfinished = list(folder.glob(f"*{ocp.path.atomicity_types.TMP_DIR_SUFFIX}*"))
        if not unfinished:
            return
        for path in unfinished:
            shutil.rmtree(path, ignore_errors=True)
        time.sleep(0.1)

"""How Orbax writes checkpoints here: with a manifest, beside what is not ours, on a full disk."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from mae_jax import hosts
from mae_jax.errors import NoSpace
from mae_jax.train import manifest


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


class _Manager(ocp.CheckpointManager):
    def wait_until_finished(self):
        with room(self):
            super().wait_until_finished()


def manager_of(folder: Path, **options: Any) -> ocp.CheckpointManager:
    """Of the checkpoints in a folder; `options` are Orbax's."""
    return _Manager(
        folder,
        options=ocp.CheckpointManagerOptions(
            step_name_format=_Steps(), temporary_path_class=_Sealed, **options
        ),
        item_handlers={
            "model": ocp.StandardCheckpointHandler(),
            "optimizer": ocp.StandardCheckpointHandler(),
            "position": ocp.JsonCheckpointHandler(),
            "config": ocp.JsonCheckpointHandler(),
        },
    )


@contextlib.contextmanager
def room(manager) -> Iterator[None]:
    """Turns a full disk into NoSpace, and removes what was begun to be written."""
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        if hosts.is_first():
            _remove_unfinished(Path(manager.directory))
        steps = manifest.steps(Path(manager.directory))  # not the manager's, which forgets some
        left = f"that of step {steps[-1]} is whole" if steps else "there is none yet"
        raise NoSpace(
            f"no room for a checkpoint in {manager.directory}; {left}; make room, and the same "
            "command resumes"
        ) from error


def _is_full(error: BaseException | None) -> bool:
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    while error is not None:
        # What TensorStore raises has no code, but ends with the system's words.
        if getattr(error, "errno", None) in codes or any(
            os.strerror(code) in str(error) for code in codes
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _remove_unfinished(folder: Path) -> None:
    for _ in range(50):  # other files of the same save may still be on their way
        unfinished = list(folder.glob(f"*{ocp.path.atomicity_types.TMP_DIR_SUFFIX}*"))
        if not unfinished:
            return
        for path in unfinished:
            shutil.rmtree(path, ignore_errors=True)
        time.sleep(0.1)

"""Taking a checkpoint that has no manifest, or was set aside, once all of it could be read."""

import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mae_jax import storage
from mae_jax.errors import NoUsableCheckpoint, StorageFaltered, UsageError
from mae_jax.train.checkpoints import checkpoint, manifest, usable


def adopt(folder: Path, name: str) -> dict[str, Any]:
    """Gives a checkpoint a manifest and the name of its step.

    If it has a manifest, its bytes must be what that says. Without one every array is restored, and
    must be of finite numbers; bytes that changed since they were saved cannot be seen.

    Args:
      folder: of the checkpoints of a run that nobody writes to.
      name: of the checkpoint there: 8, 8.damaged-1, or whatever a copy is called.

    Returns:
      The checkpoint's `step`, its path now, how many `arrays` were read, and whether `verified` by
      a manifest that was there.

    Raises:
      UsageError: there is no such checkpoint, or another has its step, or there is nothing to do.
      NoUsableCheckpoint: it is damaged, or lies as another version has it; it is left as it is.
      StorageFaltered: the storage does not answer.
    """
    path = folder / name
    if not path.is_dir():
        there = ", ".join(entry.name for entry in storage.entries(folder))
        raise UsageError(f"{str(path)!r} is no folder; in {str(folder)!r} there are {there}")
    step = _step(path)
    final = folder / str(step)
    if final != path and storage.is_there(final):
        raise UsageError(
            f"{name!r} is of step {step}, and {str(final)!r} is there already; move that away first"
        )
    why = manifest.damage(path) if manifest.has_manifest(path) else manifest.DAMAGED
    if why is None and final == path:
        raise UsageError(f"{str(path)!r} has its manifest and is whole: there is nothing to adopt")
    if why not in (None, manifest.DAMAGED):
        raise NoUsableCheckpoint(f"{path} cannot be adopted: {why}")
    count = _read(path, step)
    if why is not None:
        manifest.write(path)
    path.rename(final)
    return {"step": step, "path": str(final), "arrays": count, "verified": why is None}


def _step(path) -> int:
    position = path / "position" / "metadata"
    try:
        text = storage.patiently(f"reading {position}", position.read_bytes)
        return int(json.loads(text)["step"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise NoUsableCheckpoint(
            f"{path} cannot be adopted: its position/metadata, which says the step, cannot be read"
        ) from None


def _read(path, step) -> int:
    """Reads every array; how many there are."""
    with tempfile.TemporaryDirectory() as elsewhere:
        # Under the name of its step, without touching it.
        Path(elsewhere, str(step)).symlink_to(path.absolute())
        try:
            found = storage.patiently(
                f"reading {path}",
                lambda: checkpoint.arrays(Path(elsewhere), step, "model", "optimizer"),
            )
        except StorageFaltered:
            raise
        except Exception as error:
            raise NoUsableCheckpoint(
                f"{path} cannot be adopted: {storage.one_line(error)}"
            ) from error
    usable.check_layout(found.position, step, path.parent)
    read = jax.tree.leaves((found.model, found.optimizer))
    for values in map(np.asarray, read):
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise NoUsableCheckpoint(
                f"{path} cannot be adopted: it has numbers that are not finite"
            )
    return len(read)

"""Whether a checkpoint may be taken: whole, laid out as here, of the state that is asked for."""

import json
from pathlib import Path
from typing import Any

import jax

from mae_jax import hosts
from mae_jax.data.progress import say
from mae_jax.errors import NoUsableCheckpoint, StorageFaltered, UsageError
from mae_jax.train.checkpoints import manifest
from mae_jax.train.checkpoints.misfit import misfit

# Raised whenever parameters are stored otherwise under the same names and shapes, which no reader
# could see. 3: queries, keys and values are stacked.
LAYOUT = 3


class Damaged(Exception):
    """A checkpoint is not what was saved; says how."""


_SHARED = {kind.__name__: kind for kind in (Damaged, StorageFaltered, NoUsableCheckpoint)}


def verified(path: Path) -> bool:
    """Whether a checkpoint has a manifest; if it has, the checkpoint is what that says.

    Each process reads its share.

    Raises:
      Damaged, StorageFaltered, NoUsableCheckpoint: in all processes, if one finds it.
    """
    known, found = False, None
    try:
        known = manifest.has_manifest(path)
        if known and (why := manifest.damage(path, jax.process_index(), jax.process_count())):
            found = Damaged.__name__, why
    except (StorageFaltered, NoUsableCheckpoint) as error:
        found = type(error).__name__, str(error)
    for said in map(json.loads, hosts.exchange(json.dumps(found))):
        if said:
            kind, why = said
            raise _SHARED[kind](why)
    return known


def check_fits(manager: Any, step: int, items: dict[str, Any], error: Exception) -> None:
    """Raises UsageError if a checkpoint could not be restored because it is of another state."""
    try:
        saved = manager.item_metadata(step)
        said = misfit({name: saved[name] for name in items}, items)
    except Exception:
        return  # what is said of the arrays is damaged too
    if said:
        raise UsageError(
            f"checkpoint {step} in {manager.directory} is of another state: {said}; give the "
            "settings that it was saved with, or another --workdir"
        ) from error


def check_layout(position: dict[str, Any], step: int, folder: Path) -> None:
    """Raises NoUsableCheckpoint if parameters lie as another version has them."""
    found = position.get("layout", 1) if isinstance(position, dict) else None
    if found != LAYOUT:
        raise NoUsableCheckpoint(
            f"checkpoint {step} in {folder} has its parameters in layout {found}, and this version "
            f"reads {LAYOUT}; use the version of mae_jax that wrote it, or train again"
        )


def check_known(known: bool, position: dict[str, Any], step: int) -> None:
    """Of a checkpoint without a manifest: raises Damaged unless it never had one."""
    if not known and position.get("manifest"):
        raise Damaged(f"its {manifest.NAME} is missing")
    if not known and hosts.is_first():
        say(f"checkpoint {step} was saved without checksums, by an older version: not verified")


def none_whole(folder: Path, refused: dict[int, str]) -> str:
    """What is said where no checkpoint is left: of each why."""
    return "; ".join(
        f"checkpoint {step} in {folder} cannot be restored: {why}" for step, why in refused.items()
    )

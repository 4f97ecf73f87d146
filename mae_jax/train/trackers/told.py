"""By what a run is known to its trackers: an id that stays, a name, a group."""

import contextlib
import contextvars
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mae_jax.data.progress import say
from mae_jax.train.trackers.tracker import Told

FILE = "trackers.json"
_study: contextvars.ContextVar[Path | None] = contextvars.ContextVar("study", default=None)


@contextlib.contextmanager
def of_study(folder: Path) -> Iterator[None]:
    """Runs that begin within belong to the study in this folder, and are named by their path."""
    token = _study.set(folder)
    try:
        yield
    finally:
        _study.reset(token)


def study() -> Path | None:
    """The folder of the study that runs here belong to."""
    return _study.get()


def told(folder: Path, config: dict[str, Any], study: Path | None) -> Told:
    """What trackers are told of the run in a work folder, which keeps it from the first time on.

    Args:
      config: every key, named with dots.
      study: the folder of the study it belongs to, if it does.

    Raises:
      OSError: it cannot be kept; the next start would make another run of it.
    """
    path = folder / FILE
    try:
        known = json.loads(path.read_text())
        return Told(folder, known["id"], known["name"], known["group"], config)
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError):
        say(f"{path} cannot be read: trackers get this run as another one")
    name, group = folder.name, None
    if study is not None and folder.is_relative_to(study) and folder != study:
        name, group = folder.relative_to(study).as_posix(), study.name
    # Small letters and digits: what W&B takes as an id.
    known = {"id": secrets.token_hex(6), "name": name, "group": group}
    fresh = path.with_suffix(".tmp")
    with fresh.open("w") as file:
        json.dump(known, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return Told(folder, config=config, **known)

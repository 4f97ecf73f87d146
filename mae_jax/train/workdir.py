"""The work folder: one run, one writer."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from mae_jax import config as config_lib
from mae_jax import pixels
from mae_jax.data.progress import say
from mae_jax.errors import UsageError

_VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "mae_jax")


def read_config(workdir: str | Path) -> dict[str, Any]:
    """The resolved config of the run in a work folder.

    Raises:
      UsageError: there is no run.
    """
    path = Path(workdir) / "config.json"
    try:
        return pixels.settled(json.loads(path.read_text())["config"])
    except (OSError, ValueError, KeyError):
        raise UsageError(
            f"{str(workdir)!r} is not the work folder of a run: it has no readable config.json"
        ) from None


def begun(workdir: str | Path) -> bool:
    """Whether there is a run with a finished checkpoint, which the same command resumes."""
    folder = Path(workdir)
    if not (folder / "config.json").is_file():
        return False
    return any(path.name.isdigit() for path in (folder / "checkpoints").glob("*"))


@contextlib.contextmanager
def claim(workdir: str | Path, config: dict[str, Any]) -> Iterator[Path]:
    """Holds the work folder for this process, creating it if need be.

    The lock lies on config.json and is the kernel's: it goes when the process does, however. Where
    the file system has no locks, a line on stderr says so. If a new run ends in a UsageError, what
    was created goes again.

    Args:
      workdir: the folder.
      config: of the run; compared with that of the run that is already there.

    Raises:
      UsageError: the folder cannot be written, is held by another process, or holds another run.
    """
    folder = Path(workdir).absolute()
    path = folder / "config.json"
    if path.exists() and path.stat().st_size:  # empty where a start was cut short
        changed = config_lib.differences(read_config(folder), config)
        if changed:
            raise UsageError(
                f"work folder {str(workdir)!r} holds a different run; give another --workdir, or "
                "the same settings. Different are: " + "; ".join(changed)
            )
    elif folder.is_dir() and any(entry != path for entry in folder.iterdir()):
        raise UsageError(
            f"work folder {str(workdir)!r} holds files but no run; give an empty or a new one"
        )
    existed = folder.is_dir()
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(path.open("a+"))
        except OSError as error:
            raise UsageError(
                f"work folder {str(workdir)!r} cannot be written: {error.strerror}; "
                "give a --workdir that can"
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"work folder {str(workdir)!r} is in use by another process; wait for it, or give "
                "another --workdir"
            ) from None
        except OSError as error:  # Lustre without flock, some mounted buckets
            say(
                f"work folder {str(workdir)!r} cannot be locked ({error.strerror}): do not start a "
                "second run there"
            )
        fresh = not handle.tell()
        if fresh:
            versions = {name: _version(name) for name in _VERSIONED}
            json.dump({"config": config, "versions": versions}, handle, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        try:
            yield folder
        except UsageError:
            if fresh:
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
                path.unlink()
                if not existed:
                    shutil.rmtree(folder)
            raise


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

"""The work folder: one run, one writer."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import jax

from mae_jax import __version__, pixels, storage
from mae_jax import config as config_lib
from mae_jax.data.progress import say
from mae_jax.errors import NoSpace, UsageError
from mae_jax.train import mounts, trackers
from mae_jax.train.checkpoints import manifest

_VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "mae_jax")
_FRESH = ".config.json"  # what takes the place of config.json, until it does
PROGRAMS = ".programs"  # compiled ones, where several processes share them


def read_config(workdir: str | Path) -> dict[str, Any]:
    """The resolved config of the run in a work folder.

    Raises:
      UsageError: there is no run, or one of a version with keys that this one does not know.
    """
    return _read(Path(workdir))["config"]


def _read(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / "config.json").read_text())
        unknown = config_lib.unknown(record["config"])
        config = pixels.settled(config_lib.with_defaults(record["config"]))
        read = json.loads(json.dumps(record | {"config": config}))
        made_by = dict(record.get("versions", {})).get("mae_jax", "one that is not known")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            f"{str(folder)!r} is not the work folder of a run: it has no readable config.json"
        ) from None
    if unknown:
        # What it stands for cannot be told: the weights may need another model than this one's.
        raise UsageError(
            f"the run in {str(folder)!r} has the config key {unknown[0]!r}, which this "
            f"version of mae_jax ({__version__}) does not know; use the version that made "
            f"it ({made_by}), or a newer one"
        )
    return read


def begun(workdir: str | Path) -> bool:
    """Whether there is a run with a finished checkpoint, which the same command resumes.

    Before that the folder belongs to no run: another config may take the place of what was begun.
    """
    folder = Path(workdir)
    if not (folder / "config.json").is_file():
        return False
    saved = folder / "checkpoints"
    return bool(manifest.steps(saved) or manifest.damaged(saved))


class Claim:
    """A work folder that this process holds.

    Attributes:
      folder: its absolute path.
    """

    def __init__(self, folder: Path, config: dict[str, Any]):
        self.folder, self._config, self._lock = folder, config, None

    def record(
        self, step: int, allowed: Collection[str] = (), data: Sequence[str] = ()
    ) -> list[str]:
        """Writes what the run is, now that it has a state.

        Where a run was begun that left no checkpoint, and this is another, what that one wrote is
        removed.

        Args:
          step: that the run starts or resumes at.
          allowed: what was let change though it makes another run.
          data: what is other of the data itself, as such lines.

        Returns:
          What is other than when the run was last started, as lines `key: old -> new`.
        """
        before, now = _read(self.folder), json.loads(json.dumps(_described(self._config)))
        changed = [*config_lib.changes(before["config"], now["config"]), *data]
        if not step:
            if config_lib.differences(before["config"], now["config"]):
                say(
                    f"the run that was begun in {self.folder} left no checkpoint; this one, with "
                    "other settings, takes its place"
                )
                _remove_traces(self.folder)
        else:
            newer = config_lib.changes(before.get("versions", {}), now["versions"])
            if "hardware" in before:
                newer += config_lib.changes(*({"hardware": at["hardware"]} for at in (before, now)))
            history = before.get("changed", [])
            if changed or newer:
                entry = {"step": step, "keys": changed + newer}
                history = [*history, entry | ({"allowed": [*allowed]} if allowed else {})]
            if history:
                now["changed"] = history
        if now != before:
            self._replace(json.dumps(now, indent=1))
        return changed if step else []

    def _replace(self, text: str) -> None:
        """Puts a file in the place of config.json, at once and locked like it."""
        fresh = self.folder / _FRESH
        self._lock = handle = fresh.open("w")  # stays open: a lock goes with its file
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write(handle, text)
        fresh.replace(self.folder / "config.json")

    def close(self) -> None:
        """Lets the folder go."""
        if self._lock is not None:
            self._lock.close()


def allowed_before(workdir: str | Path) -> set[str]:
    """What a run was let change; the same command, which allows it, may be given again.

    Raises:
      UsageError: there is no run.
    """
    history = _read(Path(workdir)).get("changed", [])
    return {name for entry in history for name in entry.get("allowed", [])}


def _check_changes(workdir, config, allowed):
    """Raises UsageError unless a config is that of the run, but for what is allowed."""
    changed = config_lib.differences(read_config(workdir), config)
    refused = changed.keys() - set(allowed)
    if refused:
        # What cannot be let change comes first, and then is all that matters.
        keys = [key for key in changed if key in refused & config_lib.SHAPES]
        advice = ", as what lies there has other shapes"
        if not keys:
            keys = [key for key in changed if key in refused]
            lets = "lets it change" if len(keys) == 1 else "lets them change"
            advice = f"; or --allow_change={','.join(keys)}, which {lets}"
        raise UsageError(
            f"work folder {str(workdir)!r} holds a different run; give another --workdir, or the "
            f"same settings{advice}. Different are: " + "; ".join(changed[key] for key in keys)
        )
    for key in allowed:
        if key not in changed and key != config_lib.DATA and key not in allowed_before(workdir):
            raise UsageError(
                f"--allow_change={key} changes nothing: {key} is "
                f"{config_lib.flatten(config)[key]!r} in {str(workdir)!r} too; leave it out"
            )


@contextlib.contextmanager
def claim(
    workdir: str | Path, config: dict[str, Any], allowed: Collection[str] = ()
) -> Iterator[Claim]:
    """Holds the work folder for this process, creating it if need be.

    The lock lies on config.json and is the kernel's: it goes when the process does, however. Where
    the file system has no locks, a line on stderr says so. If a new run ends in a UsageError, what
    was created goes again.

    Args:
      workdir: the folder.
      config: of the run; compared with that of the run that is already there.
      allowed: keys that may be other than there, though they make another run.

    Raises:
      UsageError: the folder cannot be written, is held by another process, or holds another run.
    """
    folder = Path(workdir).absolute()
    path = folder / "config.json"
    recorded = path.exists() and path.stat().st_size  # empty where a start was cut short
    if recorded and begun(folder):
        _check_changes(folder, config, allowed)
    elif allowed:
        raise UsageError(
            f"--allow_change={','.join(allowed)}: there is no checkpoint in {str(workdir)!r} of a "
            "run that could change; leave it out"
        )
    elif recorded:
        read_config(folder)
    elif folder.is_dir() and {e.name for e in folder.iterdir()} - {path.name, _FRESH, PROGRAMS}:
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
        mounted = mounts.bucket(folder)
        if mounted:
            say(
                f"work folder {str(workdir)!r} lies in a bucket that {mounted} mounts: its lock "
                "holds on this machine alone, so start no second run there from another"
                + mounts.KNOWN_TO_LOSE.get(mounted, "")
            )
        if os.fstat(handle.fileno()).st_ino != path.stat().st_ino:
            raise UsageError(f"work folder {str(workdir)!r} was just in use by another process")
        fresh = not handle.tell()
        if fresh:
            try:
                _write(handle, json.dumps(_described(config), indent=1))
            except NoSpace:
                path.write_text("")  # as of a start that was cut short, not half a file
                raise
        claimed = stack.enter_context(contextlib.closing(Claim(folder, config)))
        try:
            if mounted:
                mounts.check_renames(folder, mounted)
            yield claimed
        except UsageError:
            if fresh:
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
                path.unlink()
                if not existed:
                    shutil.rmtree(folder)
            raise


def _remove_traces(folder: Path) -> None:
    """Removes what a run wrote that left no checkpoint, and nothing else."""
    traces = [
        folder / "metrics.jsonl",
        folder / trackers.FILE,
        *(folder / "panels").glob("step_*"),
    ]
    traces += (folder / "tensorboard").glob("events.out.tfevents.*")
    for path in traces:
        path.unlink(missing_ok=True)


def _write(handle: TextIO, text: str) -> None:
    """Raises NoSpace where the disk is full."""
    try:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    except OSError as error:
        if not storage.is_full(error):
            raise
        with contextlib.suppress(OSError):
            handle.close()  # which tries once more
        raise NoSpace(
            f"no room for {handle.name}; make room, and the same command goes on"
        ) from error


def _described(config):
    versions = {name: _version(name) for name in _VERSIONED}
    return {"config": config, "versions": versions, "hardware": _hardware()}


def _hardware():
    kinds = sorted({device.device_kind for device in jax.devices()})
    return {
        "devices": jax.device_count(),
        "kind": ", ".join(kinds),
        "processes": jax.process_count(),
        "cores": os.cpu_count(),  # of the first machine
    }


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

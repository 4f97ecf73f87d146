"""All trackers of a run."""

import importlib
import importlib.util
import pkgutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mae_jax import beats
from mae_jax.errors import UsageError
from mae_jax.train.trackers import libraries
from mae_jax.train.trackers.sender import Sender
from mae_jax.train.trackers.tracker import End, Tracker

PATIENCE = 30.0  # seconds that the end of a run waits for its trackers
PATIENCE_WITH_ENCODER = 600.0


def known() -> list[str]:
    """The names that `log.trackers` may have."""
    return sorted(found.name for found in pkgutil.iter_modules(libraries.__path__))


def check(log) -> None:
    """Checks the section `log` of a config, as far as trackers go.

    Raises:
      UsageError: a tracker that is unknown, named twice or not installed; none, to give an encoder.
    """
    names = known()
    for name in log.trackers:
        if name not in names:
            raise UsageError(
                f"log.trackers names {name!r}; known are {', '.join(names)}, and several are given "
                f"as {' '.join(f'--config.log.trackers={one}' for one in names[:2])}"
            )
        if importlib.util.find_spec(_library(name).needs) is None:
            raise UsageError(
                f"log.trackers names {name!r}, which is not installed: pip install "
                f"'mae_jax[{name}]'"
            )
    if len(set(log.trackers)) < len(log.trackers):
        raise UsageError(f"log.trackers {tuple(log.trackers)} names one of them twice")
    if log.track_encoder and not log.trackers:
        raise UsageError("log.track_encoder gives trackers the encoder, and log.trackers is empty")


def _library(name: str) -> type[Tracker]:
    return importlib.import_module(f"{libraries.__name__}.{name}").Library


class Senders:
    """Tells every tracker of a config what a run tells.

    Args:
      folder: the work folder.
      config: every key, named with dots.
      resumed_at: the step this start begins at.
      announce: says where trackers can be looked at.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        *,
        resumed_at: int,
        announce: Callable[[str], None],
    ):
        names: Sequence[str] = config["log.trackers"]
        encoder = config["log.track_encoder"]
        self._patience = PATIENCE_WITH_ENCODER if encoder else PATIENCE
        self._all = [
            Sender(
                name,
                _library(name),
                folder,
                config,
                resumed_at=resumed_at,
                encoder=encoder,
                announce=announce,
            )
            for name in names
        ]

    def settles(self, step: int) -> None:
        """All is told of this step and those before, and stays once a checkpoint holds it."""
        for sender in self._all:
            sender.settles(step)

    def close(self, end: End, reason: str = "") -> None:
        """Waits until all is sent, but not for long.

        Args:
          end, reason: as of `Tracker.close`.
        """
        if self._all:
            beats.other("what trackers lack")
        for sender in self._all:
            sender.end(end, reason)
        until = time.monotonic() + self._patience
        for sender in self._all:
            sender.wait(max(0.0, until - time.monotonic()))

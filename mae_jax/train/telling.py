"""What a run tells: lines on the screen, and measures and pictures in its work folder."""

from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.config import flatten
from mae_jax.data import progress
from mae_jax.errors import Preempted
from mae_jax.train.metrics import Metrics
from mae_jax.train.trackers import Senders


class Teller:
    """Speaks and writes for a run; in one process alone, which is the first.

    Args:
      quiet: whether nothing is said, as in all processes but the first.
    """

    def __init__(self, quiet: bool):
        self._quiet = quiet
        self._metrics: Metrics | None = None
        self._senders: Senders | None = None

    def open(self, folder: Path, config: dict[str, Any], *, resumed_at: int) -> None:
        """Begins to write in a work folder, and to tell trackers; before that, nothing is written.

        Args:
          folder: the work folder.
          config: of the run, resolved.
          resumed_at: the step this start begins at.
        """
        tensorboard = config["log"]["tensorboard"]
        self._metrics = Metrics(folder, tensorboard=tensorboard, resumed_at=resumed_at)
        self._senders = Senders(folder, flatten(config), resumed_at=resumed_at, announce=self.say)

    def say(self, text: str) -> None:
        """A line on stderr."""
        if not self._quiet:
            progress.say(text)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Measures of a step."""
        if self._metrics:
            self._metrics.write(step, values)

    def picture(self, step: int, picture: np.ndarray) -> None:
        """A panel (H, W, C) uint8."""
        if self._metrics:
            self._metrics.write_image(step, "reconstruction", picture)

    def sync(self) -> None:
        """Sees to it that what was written outlives this machine."""
        if self._metrics:
            self._metrics.sync()

    def settles(self, step: int) -> None:
        """All is told of this step and those before: it stays once a checkpoint holds it."""
        if self._senders and self._metrics.is_whole():
            self._senders.settles(step)

    def close(self, error: BaseException | None = None) -> None:
        """Writes out what is still on its way.

        Args:
          error: that ended the run, if one did.
        """
        if self._metrics:
            self._metrics.close()
        if self._senders and error is None:
            self._senders.close("finished")
        elif self._senders:
            stopped = isinstance(error, Preempted | KeyboardInterrupt)
            self._senders.close(
                "stopped" if stopped else "failed", f"{type(error).__name__}: {error}"
            )

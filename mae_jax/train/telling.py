"""What a run tells: lines on the screen, and measures and pictures in its work folder."""

from pathlib import Path

import numpy as np

from mae_jax.data import progress
from mae_jax.train.metrics import Metrics


class Teller:
    """Speaks and writes for a run; in one process alone, which is the first.

    Args:
      quiet: whether nothing is said, as in all processes but the first.
    """

    def __init__(self, quiet: bool):
        self._quiet, self._metrics = quiet, None

    def open(self, folder: Path, *, tensorboard: bool, resumed_at: int) -> None:
        """Begins to write in a work folder; before that, nothing is written."""
        self._metrics = Metrics(folder, tensorboard=tensorboard, resumed_at=resumed_at)

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

    def close(self) -> None:
        """Writes out what is still on its way."""
        if self._metrics:
            self._metrics.close()

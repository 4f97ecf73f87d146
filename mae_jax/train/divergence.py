"""Steps whose numbers are not finite: how many there were, what is likely, and what is left."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from mae_jax.errors import BrokenRecord, Diverged
from mae_jax.parallel import Layout
from mae_jax.train import state
from mae_jax.train.objectives import compute_dtype
from mae_jax.train.task import Task

_FAR = 1e4  # deviations from the mean; real images are within tens of them


class Guard:
    """Counts a run's steps that made no update, as `train_step` does where numbers are not finite.

    It sees to it that the run ends when it makes none any more, and that nothing but finite states
    is saved. All processes of a run count the same, and a checkpoint carries the counts along.

    Args:
      task: of the run.
      layout: of the state.
      manager: of the run's checkpoints.
      tell: gets the lines for the user.

    Attributes:
      counts: "skipped", steps that made no update since the run began, and how many of them are
        "in_a_row" up to the last step.
    """

    def __init__(self, task: Task, layout: Layout, manager, tell: Callable[[str], None]):
        self._task, self._layout, self._manager, self._tell = task, layout, manager, tell
        self.counts = {"skipped": 0, "in_a_row": 0}

    def resume(self, position: dict[str, Any]) -> None:
        """Takes the counts of a checkpoint's position; without them, there were none."""
        self.counts |= {name: position.get(name, 0) for name in self.counts}

    def check(self, step: int, values: dict[str, float]) -> None:
        """Counts a step.

        Args:
          step: which, the next one to be counted.
          values: its `loss` and `grad_norm`.

        Raises:
          Diverged: it is one too many in a row, or the run would end with several.
        """
        if np.isfinite(values["loss"]) and np.isfinite(values["grad_norm"]):
            self.counts["in_a_row"] = 0
            return
        self.counts = {name: count + 1 for name, count in self.counts.items()}
        row, limit = self.counts["in_a_row"], self._task.config.train.max_skipped
        if step == self._task.steps:
            # None is left that could show the state to be good: a single one is forgiven at most.
            limit = min(limit, 1 if self.counts["skipped"] < step else 0)
        numbers = f"step {step}: loss {values['loss']}, gradient norm {values['grad_norm']}"
        if row > limit:
            so_far = f", after {row - 1} in a row that made no update either" if row > 1 else ""
            raise Diverged(f"{numbers}{so_far}; {self._advice(step)}")
        self._tell(
            f"{numbers}; it made no update, as {row} in a row did not (train.max_skipped {limit}) "
            f"and {self.counts['skipped']} in all"
        )

    def check_state(self, step: int, current: state.TrainState) -> None:
        """Raises Diverged if a number of a state that is to be saved is not finite."""
        if not state.is_finite(current):
            raise Diverged(f"step {step}: a parameter is no longer finite; {self._advice(step)}")

    def _advice(self, step) -> str:
        """The likely reason, what helps, and what is saved."""
        latest = self._manager.latest_step()
        if latest is None:
            left = "There is no checkpoint yet, so that the same --workdir takes other settings"
        else:
            left = (
                f"Checkpoint {latest} in {self._manager.directory} is finite; other settings need "
                "another --workdir"
            )
        updates = step - self.counts["skipped"]
        return f"{_reason(self._task, self._layout, step, updates)}. {left}"


def _reason(task, layout, step, updates):
    config = task.config
    far = _far(task, layout, step)
    if far is not None:
        return (
            f"{far}, which is the likely reason: see whether data.mean and data.std are in the "
            "units of the images, as `mae-jax data stats` gives them, and what is in that image"
        )
    narrow = compute_dtype(config.model.dtype) == jnp.bfloat16
    precise = ", or --config.model.dtype=float32" if narrow else ""
    if not updates:
        return (
            "no update was made before, so that it is not the learning rate; look at data.mean, "
            f"data.std and the dimensions of the model{precise}"
        )
    return f"a lower train.base_lr, a longer warm-up, train.clip_norm{precise} may help"


def _far(task, layout, step) -> str | None:
    """The image of this process's part of a batch whose pixels are absurdly far from the mean."""
    batches = task.by_step(layout, steps=step)
    try:
        images = batches[step - 1]["image"]
    except BrokenRecord:
        return None
    values = np.asarray(task.objective.pixels.standardise(images))
    furthest = np.abs(values).reshape(len(values), -1).max(1)
    # Not `>`, which is false of what is no number.
    beyond = np.flatnonzero(~(furthest <= _FAR))
    if not len(beyond):
        return None
    record = batches.records(step - 1)[beyond[0]]
    return (
        f"image {task.train.name(record)!r} has values {furthest[beyond[0]]:.3g} deviations from "
        "the mean"
    )

"""When a run is looked at, between its steps, and what becomes of what is seen."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mae_jax import beats, hosts
from mae_jax.errors import UsageError
from mae_jax.parallel import Layout
from mae_jax.train import metrics
from mae_jax.train.state import TrainState
from mae_jax.train.task import Task
from mae_jax.train.telling import Teller
from mae_jax.train.watch import Watch


class Looks:
    """Measures and draws the states of a run, as often as its config says, and at its end.

    Args:
      task: of the run.
      layout: of the states.
      folder: the work folder, which gets the panels.
      teller: told of the measures.
      measured: is given a step and its measures, in every process; what it raises ends the run.
      teacher: as of `Watch`.
    """

    def __init__(
        self,
        task: Task,
        layout: Layout,
        folder: Path,
        teller: Teller,
        measured: Callable[[int, dict[str, float]], None] | None,
        teacher: Any = None,
    ):
        self._task, self._folder, self._teller, self._measured = task, folder, teller, measured
        self._watch = Watch(task.objective, task.train, task.held_out, task.config, layout, teacher)

    def check(self, wanted: str | None, template: TrainState) -> None:
        """Raises UsageError where a measure that checkpoints are kept by is none of the run's."""
        if wanted is not None and wanted not in (names := self._watch.names(template)):
            raise UsageError(
                f"checkpoint.keep_best {wanted!r} is not measured by this run; "
                + (f"it measures {', '.join(names)}" if names else "data.eval_split is not set")
            )

    def described(self) -> str | None:
        """As of `Watch.described`."""
        return self._watch.described()

    def due(self, step: int) -> tuple[bool, bool]:
        """Whether a step is measured, and whether it is drawn."""
        log, last = self._task.config.log, step == self._task.steps
        return tuple(
            last or self._task.is_due(step, epochs)
            for epochs in (log.eval_every_epochs, log.panel_every_epochs)
        )

    def look(self, step: int, state: TrainState) -> dict[str, float]:
        """Does what is due; returns the measures."""
        return self._look(step, state, *self.due(step))

    def make_up(self, step: int, state: TrainState) -> None:
        """Looks at the state a run resumes from, if it was told to stop before it could."""
        measured, drawn = self.due(step)
        if hosts.is_first():
            seen = [line for line in metrics.read(self._folder) if line["step"] == step]
            measured &= not any(name.startswith("eval_") for line in seen for name in line)
            drawn &= not self._panel(step).exists()
        beats.other(f"what step {step} left out")
        # What process 0 finds holds for all.
        self._look(step, state, *json.loads(hosts.exchange(json.dumps([measured, drawn]))[0]))

    def _look(self, step, state, measured, drawn):
        measures: dict[str, float] = {}
        if measured:
            measures = self._watch.measure(state) | self._watch.neighbours(state)
        if measures:
            self._teller.write(step, measures)
            told = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in measures.items()]
            self._teller.say("  ".join([f"step {step}", *told]))
            if self._measured:
                self._measured(step, measures)
        if drawn:
            picture = self._watch.panel(state, self._panel(step))
            if picture is not None:
                self._teller.picture(step, picture)
        return measures

    def _panel(self, step: int) -> Path:
        return self._folder / "panels" / f"step_{step:08d}.png"

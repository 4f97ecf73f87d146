"""The only training loop: `_Run.train`, and what it does between steps."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mae_jax import hosts, parallel
from mae_jax.config import flatten
from mae_jax.data import loader
from mae_jax.data.describe import describe
from mae_jax.data.progress import say
from mae_jax.errors import Diverged, Preempted, UsageError
from mae_jax.parallel import Layout
from mae_jax.train import checkpoint, divergence, initial_state, metrics, state, workdir
from mae_jax.train.objectives import Reconstruct
from mae_jax.train.pace import Pace
from mae_jax.train.step import put, train_step
from mae_jax.train.stop import Stop, stop_signal
from mae_jax.train.task import Task, prepare
from mae_jax.train.watch import Watch

_PER_HOST = ("data.dir", "data.workers", "data.cache")  # what may differ between machines


def _read_work_folder(config) -> dict[str, Any]:
    return checkpoint.read_model(config.init_from)


def run(
    config,
    folder: str | Path,
    *,
    quiet: bool = False,
    read_weights: Callable[[Any], dict[str, Any]] = _read_work_folder,
    measured: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Trains what a config says in a work folder, resuming if it was begun.

    Args:
      config: see `mae_jax.config`.
      folder: the work folder.
      quiet: leave out the parameter table and the progress lines.
      read_weights: from a config, the `params` and `tables` of what `init_from` names.
      measured: is given a step and the measures taken there, in every process; what it raises ends
        the run.

    All processes of a run call this with the same arguments, and share the folder.

    Returns:
      The last measures, and where panel, metrics and checkpoint lie.

    Raises:
      UsageError: a mistake in config or folder; nothing was created.
      BrokenRecord, Diverged, NoUsableCheckpoint, WorkerDied: what their names say.
      Preempted: SIGTERM or SIGINT came, and the state was saved.
    """
    with stop_signal() as stop, contextlib.ExitStack() as held:

        def make():
            source = config.init_from
            # A run that was begun has all it needs: what it started from may be gone.
            if source is not None and not workdir.begun(folder) and not Path(source).exists():
                raise UsageError(f"init_from {source!r} does not exist")
            return prepare(config, jax.device_count())

        task = hosts.in_turn(make)
        resolved = task.config.to_dict()
        fingerprint = task.train.fingerprint()
        alike = {k: v for k, v in flatten(resolved).items() if k not in _PER_HOST}
        alike |= {"the data": fingerprint, "the split over devices": str(task.split)}
        hosts.check_same(alike)
        claimed = None
        with hosts.together():
            path = Path(folder).absolute()
            if hosts.is_first():
                claimed = held.enter_context(workdir.claim(folder, resolved))
        layout = Layout.of(task.split)
        if hosts.is_first() and not quiet:
            say(task.described(layout))
        run = _Run(task, path, resolved, fingerprint, layout, stop, quiet, read_weights)
        run.measured = measured
        if claimed is not None:
            run.record(claimed)
        return run.train()


class _Run:
    """One process's part in a run: everything between claiming the folder and letting it go."""

    def __init__(
        self,
        task: Task,
        folder: Path,
        resolved,
        fingerprint,
        layout: Layout,
        stop: Stop,
        quiet: bool,
        read_weights,
    ):
        self.task, self.folder, self.resolved, self.layout = task, folder, resolved, layout
        self.signal, self.stopping, self.ballot = stop, False, hosts.Ballot(layout.mesh)
        self.quiet = quiet or not hosts.is_first()
        self.read_weights, self.measured = read_weights, None
        config = task.config
        self.identity = initial_state.identity(config, fingerprint)
        self.broken = loader.new_ledger(config, task.train, say)
        self._say(f"data: {describe(task.train)}")
        if task.held_out is not None:
            self._say(f"held out: {describe(task.held_out)}")
        self.watch = Watch(task.objective, task.train, task.held_out, config, layout)
        self.manager = checkpoint.open_manager(folder / "checkpoints", config.checkpoint.keep)
        self.state, self.first = self._start()
        self.metrics, self.told = None, False

    def record(self, claimed: workdir.Claim) -> None:
        """Notes in the work folder what the run is, and begins to write about it there."""
        changed = claimed.record(self.first)
        if changed:
            self._say("changed since the run was last started: " + "; ".join(changed))
        tensorboard = self.task.config.log.tensorboard
        self.metrics = metrics.Metrics(self.folder, tensorboard=tensorboard, resumed_at=self.first)

    def train(self) -> dict[str, Any]:
        """Runs from where the folder is to the end."""
        task, config = self.task, self.task.config
        self.pace = Pace(
            steps=task.steps,
            steps_per_epoch=task.steps_per_epoch,
            batch_size=config.data.batch_size,
        )
        batches = self.task.batches(self.layout, first=self.first, ledger=self.broken)
        seed = np.uint32(config.seed)
        before = None  # metrics of the step before, still on the device
        with contextlib.ExitStack() as opened:
            opened.enter_context(contextlib.closing(self.manager))
            if self.metrics:
                opened.enter_context(contextlib.closing(self.metrics))
            opened.enter_context(contextlib.closing(batches))
            following = next(batches, None)  # None where nothing is left to do
            ahead = following and self._put(following)
            for step in range(self.first + 1, task.steps + 1):
                self.state, numbers = train_step(
                    self.state,
                    ahead,
                    seed,
                    objective=task.objective,
                    recipe=task.recipe,
                    layout=self.layout,
                    accumulate=config.train.accumulate,
                )
                if numbers["loss"].is_ready():  # at once, where programs run in their caller
                    self.pace.done(step)
                # While the step runs, the next batch is waited for and goes to the device.
                asked = time.perf_counter()
                following = next(batches) if step < task.steps else None
                self.pace.waited(time.perf_counter() - asked)
                ahead = following and self._put(following)
                if step == self.first + 1:
                    jax.block_until_ready(numbers)  # mostly compilation
                    self.pace.done(step)
                self.stopping = self.ballot.cast(bool(self.signal))
                # The step just dispatched runs while the one before it is read: the device
                # never waits for the host, and the host is never more than a step ahead.
                if before is not None:
                    self._record(step - 1, before)
                before = numbers
                if self._due(step):
                    self._record(step, before)
                    before = None
                    began = time.perf_counter()
                    self._pause(step)
                    self.pace.aside(time.perf_counter() - began)
                    if self.stopping and step < task.steps:
                        raise Preempted(
                            f"stopped at step {step} of {task.steps}, saved in {self.folder}; "
                            "the same command resumes"
                        )
            return self._summary()

    def _due(self, step: int) -> bool:
        config, task = self.task.config, self.task
        intervals = (
            config.checkpoint.every_epochs,
            config.log.eval_every_epochs,
            config.log.panel_every_epochs,
        )
        return (
            self.stopping
            or step == task.steps
            or any(task.is_due(step, epochs) for epochs in intervals)
        )

    def _record(self, step: int, numbers: dict[str, jax.Array]) -> None:
        values = {name: float(value) for name, value in numbers.items()}
        self.pace.done(step)
        if not np.isfinite(values["loss"]) or not np.isfinite(values["grad_norm"]):
            raise Diverged(
                f"step {step}: loss {values['loss']}, gradient norm {values['grad_norm']}; "
                + divergence.advice(self.task, self.layout, step, self.manager)
            )
        if step % self.task.config.log.every_steps == 0 or step == self.task.steps:
            values |= self.pace.measure(step)
            if self.broken.seen:
                values["broken_records"] = len(self.broken.seen)
            self._write(step, values)
            self._say(self.pace.line(step, values))
            self.told = self.told or self.pace.known
        elif self.pace.known and not self.told:
            self._say(f"step {step} of {self.task.steps}: done in about {self.pace.left}")
            self.told = True

    def _pause(self, step: int) -> None:
        """What is done between steps: measure, draw, save; only saving when told to stop."""
        config, task, last = self.task.config, self.task, step == self.task.steps

        def due(epochs):
            return not self.stopping and (last or task.is_due(step, epochs))

        if due(config.log.eval_every_epochs):
            measures = self.watch.measure(self.state) | self.watch.neighbours(self.state)
            if measures:
                self._write(step, measures)
                self._say(
                    "  ".join(
                        [f"step {step}"]
                        + [
                            f"{name.replace('_', ' ')} {value:.4f}"
                            for name, value in measures.items()
                        ]
                    )
                )
                if self.measured:
                    self.measured(step, measures)
        if due(config.log.panel_every_epochs):
            path = self.folder / "panels" / f"step_{step:08d}.png"
            picture = self.watch.panel(self.state, path)
            if picture is not None and self.metrics:
                self.metrics.write_image(step, "reconstruction", picture)
        if last or self.stopping or task.is_due(step, config.checkpoint.every_epochs):
            if not state.is_finite(self.state):
                raise Diverged(
                    f"step {step}: a parameter is no longer finite; "
                    + divergence.advice(self.task, self.layout, step, self.manager)
                )
            position = {"step": step, "steps": task.steps} | self.identity
            if not isinstance(task.objective, Reconstruct):
                position["classes"] = list(task.train.classes)  # what its logits mean
            checkpoint.save(self.manager, self.state, position, self.resolved)

    def _summary(self) -> dict[str, Any]:
        self.manager.wait_until_finished()
        hosts.barrier("everything of the run is written")
        panels = sorted((self.folder / "panels").glob("*.png"))
        latest: dict[str, float] = {}
        for line in metrics.read(self.folder):
            latest |= line
        measured = {k: v for k, v in latest.items() if k == "loss" or k.startswith("eval_")}
        return {
            "workdir": str(self.folder),
            "steps": self.task.steps,
            "measures": measured,
            "panel": str(panels[-1]) if panels else None,
            "metrics": str(self.folder / "metrics.jsonl"),
            "checkpoint": str(self.folder / "checkpoints" / str(self.manager.latest_step())),
        }

    def _start(self) -> tuple[state.TrainState, int]:
        task, config = self.task, self.task.config
        template = state.abstract(task.objective, task.recipe, self.layout)
        if config.log.sharding:
            self._say(parallel.table(template, self.layout.state(template)))
        made = self.manager.latest_step() or 0
        if made > task.steps:
            raise UsageError(
                f"the run in {self.folder} has made {made} steps already, and the config asks for "
                f"{task.steps} in all; give it at least as many, or another --workdir"
            )
        resumed = initial_state.restore(self.manager, template, self.identity)
        if resumed is None:
            return initial_state.create(task, self.layout, self.read_weights), 0
        (found, planned), step = resumed, int(resumed[0].step)
        self._say(f"resuming at step {step} of {task.steps}")
        if planned != task.steps:
            rate = float(task.recipe.schedule()(step))
            self._say(
                f"the run was planned for {planned} steps: from step {step} on, its learning rate "
                f"is that of a run of {task.steps}, {rate:.2e} now"
            )
        return found, step

    def _put(self, batch: loader.Batch):
        """A batch on its way to the devices."""
        return put(batch, self.layout, self.task.config.data.batch_size)

    def _write(self, step: int, values: dict[str, float]) -> None:
        if self.metrics:
            self.metrics.write(step, values)

    def _say(self, text: str) -> None:
        if not self.quiet:
            say(text)

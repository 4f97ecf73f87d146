"""The only training loop: `_Run.train`, and what it does between steps."""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mae_jax import beats, hosts, leaving, parallel
from mae_jax import config as config_lib
from mae_jax.config import named
from mae_jax.data import loader
from mae_jax.data.describe import describe, overlap
from mae_jax.data.progress import say
from mae_jax.errors import Preempted, UsageError
from mae_jax.parallel import Layout
from mae_jax.train import compilation, divergence, initial_state, metrics, state, workdir
from mae_jax.train.checkpoints import checkpoint
from mae_jax.train.checkpoints.rhythm import Rhythm
from mae_jax.train.checkpoints.saver import Saver
from mae_jax.train.classify import Classify
from mae_jax.train.looks import Looks
from mae_jax.train.pace import Pace
from mae_jax.train.replicas import Replicas
from mae_jax.train.step import put, train_step
from mae_jax.train.stop import Stop, stop_signal
from mae_jax.train.task import Task, prepare
from mae_jax.train.teacher import Read, place
from mae_jax.train.telling import Teller

_PER_HOST = ("data.dir", "data.workers", "data.cache")  # what may differ between machines


def _read_work_folder(config) -> dict[str, Any]:
    return checkpoint.read_model(config.init_from)


def run(
    config,
    folder: str | Path,
    *,
    quiet: bool = False,
    read_weights: Callable[[Any], dict[str, Any]] = _read_work_folder,
    teacher: Read | None = None,
    allow_change: Sequence[str] = (),
    measured: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Trains what a config says in a work folder, resuming if it was begun.

    Args:
      config: see `mae_jax.config`.
      folder: the work folder.
      quiet: leave out the parameter table and the progress lines.
      read_weights: from a config, the `params` and `tables` of what `init_from` names.
      teacher: what `train.teacher` names, if the config does.
      allow_change: keys that may be other than in the run that was begun, though that makes it
        another (`config.resuming` says which do); "data": the images may.
      measured: is given a step and the measures taken there, in every process; what it raises ends
        the run.

    All processes of a run call this with the same arguments, and share the folder.

    Returns:
      The last measures, and where panel, metrics and checkpoint lie.

    Raises:
      UsageError: a mistake in config or folder; nothing was created.
      BrokenRecord, Corrupted, Diverged, HostMissing, NoUsableCheckpoint, NoSpace, StorageFaltered,
        WorkerDied: what their names say.
      Preempted: SIGTERM or SIGINT came, and the state was saved.
    """
    config_lib.check_allowed(allow_change)
    with contextlib.ExitStack() as held:
        stop = held.enter_context(stop_signal())
        held.enter_context(leaving.missed())
        held.callback(beats.unlimited, "leaving the run")

        def make():
            source = config.init_from
            # A run that was begun has all it needs: what it started from may be gone.
            read = source is not None and not named.is_name(source) and not workdir.begun(folder)
            if read and not Path(source).exists():
                raise UsageError(f"init_from {source!r} does not exist")
            return prepare(
                config,
                jax.device_count(),
                teacher=teacher and teacher.teacher,
                slices=parallel.slices_of(),
            )

        task = hosts.in_turn(make)
        resolved = task.config.to_dict()
        fingerprint = task.train.fingerprint()
        alike = {k: v for k, v in config_lib.flatten(resolved).items() if k not in _PER_HOST}
        alike |= {"the data": fingerprint, "the split over devices": str(task.split)}
        alike |= {"--allow_change": list(allow_change)}
        alike |= {"the teacher's sha256": teacher and teacher.sha256}
        hosts.check_same(alike)
        claimed = None
        with hosts.together():
            path = Path(folder).absolute()
            if hosts.is_first():
                claimed = held.enter_context(workdir.claim(folder, resolved, allow_change))
        beats.place(jax.process_index(), path)
        compilation.keep_for_all(path / workdir.PROGRAMS)
        layout = Layout.of(task.split)
        teller = Teller(quiet or not hosts.is_first())
        teller.say(task.described(layout))
        placed = None
        if teacher is not None:
            teller.say(teacher.described())
            placed = place(teacher, task.objective.attention, layout)
        looks = Looks(task, layout, path, teller, measured, placed)
        run = _Run(
            task,
            path,
            resolved,
            layout,
            stop,
            teller,
            looks,
            read_weights,
            allow_change,
            initial_state.identity(task.config, fingerprint, teacher),
            placed,
        )
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
        layout: Layout,
        stop: Stop,
        teller: Teller,
        looks: Looks,
        read_weights,
        allowed: Sequence[str],
        identity: dict[str, Any],
        teacher: Any,
    ):
        self.task, self.folder, self.resolved, self.layout = task, folder, resolved, layout
        self.signal, self.stopping, self.ballot = stop, False, hosts.Ballot(layout.mesh)
        self.teller, self.looks, self.told = teller, looks, False
        self.read_weights, self.allowed, self.other_data = read_weights, allowed, []
        config = task.config
        self.identity, self.teacher = identity, teacher
        self.broken = loader.new_ledger(config, task.train, say)
        self.teller.say(f"data: {describe(task.train)}")
        if hosts.is_first() and (larger := task.enlarged()):
            self.teller.say(larger)
        if task.held_out is not None:
            self.teller.say(f"held out: {describe(task.held_out)}")
            if hosts.is_first() and (both := overlap(task.train, task.held_out)):
                self.teller.say(both)
        if (measured_on := looks.described()) is not None:
            self.teller.say(measured_on)
        self.manager = checkpoint.open_manager(folder / "checkpoints", **config.checkpoint)
        self.saver, self.rhythm, self.saving = Saver(self.manager), Rhythm(task), False
        self.guard = divergence.Guard(task, layout, self.manager, self.teller.say)
        self.state, self.first = self._start()
        self.replicas = Replicas(
            config.train.check_replicas_every, layout, self.state, self.manager, self.teller.say
        )

    def record(self, claimed: workdir.Claim) -> None:
        """Notes in the work folder what the run is, and begins to write about it there."""
        changed = claimed.record(self.first, self.allowed, self.other_data)
        if changed:
            self.teller.say("changed since the run was last started: " + "; ".join(changed))
        self.teller.open(self.folder, self.resolved, resumed_at=self.first)

    def train(self) -> dict[str, Any]:
        """Runs from where the folder is to the end."""
        task, config = self.task, self.task.config
        self.pace = Pace(
            steps=task.steps,
            steps_per_epoch=task.steps_per_epoch,
            batch_size=config.data.batch_size,
        )
        beats.other(f"step {self.first + 1}")
        batches = self.task.batches(self.layout, first=self.first, ledger=self.broken)
        seed = np.uint32(config.seed)
        before = None  # metrics of the step before, still on the device
        with contextlib.ExitStack() as opened:
            opened.enter_context(contextlib.closing(self.saver))
            opened.push(lambda kind, error, trace: self.teller.close(error))
            opened.enter_context(contextlib.closing(batches))
            if self.first:
                self.looks.make_up(self.first, self.state)
                self.teller.settles(self.first)
                beats.other(f"step {self.first + 1}")
            if self.first < task.steps:
                width = task.objective.dimensions.width
                self.teller.say(compilation.announced(self.layout.platform, width))
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
                    teacher=self.teacher,
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
                self.stopping, over = self.ballot.cast(bool(self.signal), self.rhythm.is_over())
                self.saving = self.rhythm.is_due(step, over) or self.saver.is_due()
                # The step just dispatched runs while the one before it is read: the device
                # never waits for the host, and the host is never more than a step ahead.
                if before is not None:
                    self._record(step - 1, before)
                before = numbers
                if self._due(step):
                    self._record(step, before)
                    before = None
                    began = time.perf_counter()
                    beats.other(f"what follows step {step}")
                    self._pause(step)
                    self.pace.aside(time.perf_counter() - began)
                    if self.stopping and step < task.steps:
                        raise Preempted(
                            f"stopped at step {step} of {task.steps}, saved in {self.folder}; "
                            "the same command resumes"
                        )
                beats.step(step)
            return self._summary()

    def _due(self, step: int) -> bool:
        return self.stopping or self.saving or self.replicas.due(step) or any(self.looks.due(step))

    def _record(self, step: int, numbers: dict[str, jax.Array]) -> None:
        values = {name: float(value) for name, value in numbers.items()}
        self.pace.done(step)
        self.guard.check(step, values)
        if step % self.task.config.log.every_steps == 0 or step == self.task.steps:
            values |= self.pace.measure(step)
            if self.broken.seen:
                values["broken_records"] = len(self.broken.seen)
            if self.guard.counts["skipped"]:
                values["skipped"] = self.guard.counts["skipped"]
            self.teller.write(step, values)
            self.teller.say(self.pace.line(step, values))
            self.told = self.told or self.pace.known
        elif self.pace.known and not self.told:
            self.teller.say(f"step {step} of {self.task.steps}: done in about {self.pace.left}")
            self.told = True

    def _pause(self, step: int) -> None:
        """What is done between steps: compare, measure, draw, save; no more when told to stop."""
        task, last = self.task, step == self.task.steps
        saves = last or self.stopping or self.saving
        self.replicas.check(step, self.state, saves)
        looks = last or not self.stopping
        measures = self.looks.look(step, self.state) if looks else {}
        if saves:
            self.guard.check_state(step, self.state)
            position = {"step": step, "steps": task.steps, "measures": measures}
            position |= self.guard.counts | self.identity
            if isinstance(task.objective, Classify):
                position["classes"] = list(task.train.classes)  # what its logits mean
            self.teller.sync()
            self.rhythm.saved(step)
            self.saver.save(self.state, position, self.resolved, wait=last or self.stopping)
            if looks:  # else what is left out is made up for by the next start
                self.teller.settles(step)

    def _summary(self) -> dict[str, Any]:
        beats.other("the last save")
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
        beats.other("making or restoring the state")
        task, config = self.task, self.task.config
        template = state.abstract(task.objective, task.recipe, self.layout)
        if config.log.sharding:
            self.teller.say(parallel.table(template, self.layout.state(template)))
        self.looks.check(config.checkpoint.keep_best, template)
        made = self.manager.latest_step() or 0
        if made > task.steps:
            raise UsageError(
                f"the run in {self.folder} has made {made} steps already, and the config asks for "
                f"{task.steps} in all; give it at least as many, or another --workdir"
            )
        resumed = initial_state.restore(self.manager, template, self.identity, self.allowed)
        if resumed is None:
            made, line = initial_state.create(
                task, self.layout, self.read_weights, self.teacher, self.teller.say
            )
            if line is not None:
                self.teller.say(line)
            return made, 0
        found, position, self.other_data = resumed
        step, planned = int(found.step), position["steps"]
        self.guard.resume(position)
        self.teller.say(f"resuming at step {step} of {task.steps}")
        if self.other_data:
            self.teller.say(
                f"the data is other than it was: from step {step} on, batches are those of a run "
                "that had it so from its start; of the pass that was under way, images may come "
                "twice or not at all"
            )
        elif config_lib.DATA in {*self.allowed} - workdir.allowed_before(self.folder):
            raise UsageError("--allow_change=data changes nothing: the data is what it was")
        if planned != task.steps:
            rate = float(task.recipe.schedule()(step))
            self.teller.say(
                f"the run was planned for {planned} steps: from step {step} on, its learning rate "
                f"is that of a run of {task.steps}, {rate:.2e} now"
            )
        return found, step

    def _put(self, batch: loader.Batch):
        """A batch on its way to the devices."""
        return put(batch, self.layout, self.task.config.data.batch_size)

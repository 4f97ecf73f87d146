"""Pre-training under settings that Optuna chooses by what came of those before."""

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mae_jax import hosts
from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.studies import agreement, claims, division, grid, optuna_study, study, sweep
from mae_jax.studies.pipeline import LOSS, Pipeline, Pruned
from mae_jax.train import compilation, trackers
from mae_jax.train.stop import Stop

# Keys under which a held-out loss is another quantity.
_OTHER_LOSS = (
    "model.mask_ratio", "model.norm_pix", "model.sampling", "model.patch_size", "model.image_size",
    "data.name", "data.folder", "data.mixture", "data.pixels", "data.mean", "data.std",
    "data.nodata", "data.eval_split", "data.eval_crop",
)  # fmt: skip
_LOST = 60.0  # seconds after which a trial that has no folder has lost its process


def run(
    config,
    folder: str | Path,
    *,
    values: Mapping[str, grid.Values],
    count: int,
    then: Mapping[str, Any],
    storage: str | None = None,
    wait: bool = True,
) -> dict[str, Any]:
    """Pre-trains with settings that Optuna chooses, then fine-tunes and probes.

    It looks for the highest accuracy of the first of `then`; where there is none, for the lowest
    loss on held-out images. That loss also decides, as training goes on, which runs are given up,
    unless it means something else from setting to setting. One process alone chooses the same
    settings every time; several that share folder or storage divide the runs.

    Args:
      config, folder, then: as of `sweep.run`.
      values: of config keys: ranges, or lists to choose from.
      count: settings to try, of all processes together.
      storage: a database's URL, or grpc://HOST:PORT of Optuna's proxy; by default a file in the
        folder.
      wait: for runs that other processes are at.

    Returns:
      As `sweep.run`, and the `best` row.

    Raises:
      As `sweep.run`; UsageError also where Optuna or its storage is not to be had.
    """
    optuna_study.check()
    if count < 1:
        raise UsageError(f"--search={count} must be at least 1")
    folder = Path(folder).absolute()
    space = grid.checked(values, ranges=True)
    if not space:
        raise UsageError("--search needs --grid KEY=LOW..HIGH or --grid KEY=VALUE,VALUE")
    goal = next(iter(then), LOSS)
    other = [key for key in space if key in _OTHER_LOSS]
    if goal == LOSS and other:
        raise UsageError(
            f"the held-out loss means something else for every {other[0]}; say with --then what "
            "is to be as good as it can"
        )
    wanted, agreed = sweep.described(config, space, 1, then, search=True), None
    stages = Pipeline(config, then)
    columns = stages.check(list(_corners(space)))[0][0]
    if goal not in columns:
        raise UsageError(
            "a search needs data.eval_split, for the loss on held-out images, or --then"
        )
    if hosts.is_first():
        division.locked(folder, divided=False)
    while agreed is None:
        found = hosts.from_first(lambda: agreement.settled(folder, wanted))
        agreed = hosts.from_first(
            lambda found=found: agreement.record(folder, found, wanted=wanted)
        )
    made = None
    if hosts.is_first():
        made = optuna_study.opened(storage, folder, agreed, config.seed, maximise=goal != LOSS)
    turns = _Turns(
        made, stages, space, columns, count, folder, agreed["id"], goal, prune=not other, wait=wait
    )
    compilation.keep(folder / ".programs")
    study.run(turns, count, folder)
    result = sweep.publish(turns, count, folder)
    measured = [row for row in result["rows"] if row[goal]["mean"] is not None]
    key = functools.partial(_mean, goal)
    best = (min if goal == LOSS else max)(measured, key=key) if measured else None
    return result | {"best": best}


class _Turns(study.Turns):
    """Trials that Optuna's storage numbers; who has the lock of a trial's folder is at it."""

    def __init__(self, made, stages, space, columns, count, folder, owner, goal, *, prune, wait):
        super().__init__((), folder)
        self._study, self._stages, self._space, self._columns = made, stages, space, columns
        self._count, self._owner, self._goal = count, owner, goal
        self._prune, self._wait = prune, wait
        self._trial = None  # Optuna's, of what this process is at

    def take(self, stop: Stop) -> Iterator[tuple[study.Trial, study.Found, bool]]:
        seen: set[int] = set()
        first, told = True, False
        while True:
            for trial, found in hosts.from_first(self._finished):
                if trial not in seen:
                    seen.add(trial)
                    yield self._as_trial(trial, found["setting"]), found["found"], not first
            first = False
            if len(seen) >= self._count:
                return
            with contextlib.ExitStack() as held:
                job = hosts.from_first(lambda held=held: self._next(held))
                if job is not None:
                    number, setting = job
                    found = self._measured(number, _typed(setting))
                    seen.add(number)
            if job is not None:
                yield self._as_trial(number, setting), found, True
                continue
            if not self._wait:
                return
            if not told and hosts.is_first():
                say(f"waiting for {self._count - len(seen)} trials that others are at")
            told = True
            time.sleep(division.LOOK)
            if hosts.any_of(bool(stop)):
                raise study.stopped(len(seen), self._count, self._folder)

    def ended(self) -> list[tuple[study.Trial, study.Found]]:
        found = hosts.from_first(self._finished)
        return [(self._as_trial(n, kept["setting"]), kept["found"]) for n, kept in found]

    @contextlib.contextmanager
    def publishing(self) -> Iterator[bool]:
        with claims.waiting(self._folder / ".table"):
            yield hosts.is_first()

    def _as_trial(self, number, setting) -> study.Trial:
        row = {"trial": number} | setting
        return study.Trial(row, 0, _name(number), lambda folder: {}, columns=True)

    def _finished(self):
        trials = self._study.get_trials(deepcopy=False)
        kept = [(t.number, t.user_attrs) for t in trials if t.state.is_finished()]
        return [(number, attrs["ended"]) for number, attrs in kept if "ended" in attrs]

    def _next(self, held) -> list[Any] | None:
        """Number and setting of a trial that is now this process's; None where none is left."""
        with claims.waiting(self._folder / ".search"):
            trials = self._study.get_trials(deepcopy=False)
            for trial in trials:
                if not trial.state.is_finished() and self._left_behind(trial):
                    path = self._folder / _name(trial.number) / division.CLAIM
                    if held.enter_context(claims.claim(path)):
                        return self._begin(optuna_study.resumed(self._study, trial))
            counted = [t for t in trials if "ended" in t.user_attrs or not t.state.is_finished()]
            if len([t for t in counted if not self._lost(t)]) >= self._count:
                return None
            trial = self._study.ask()
            path = self._folder / _name(trial.number) / division.CLAIM
            held.enter_context(claims.claim(path))
            return self._begin(trial)

    def _left_behind(self, trial) -> bool:
        """Whether a trial that is not finished is of this folder."""
        owner = trial.user_attrs.get("folder")
        return owner == self._owner or (owner is None and optuna_study.in_folder(self._study))

    def _lost(self, trial) -> bool:
        """Whether its process ended before it could say where it works."""
        if trial.state.is_finished() or "folder" in trial.user_attrs:
            return False
        began = trial.datetime_start
        return began is not None and time.time() - began.timestamp() > _LOST

    def _begin(self, trial):
        trial.set_user_attr("folder", self._owner)
        self._trial, setting = trial, {}
        for name, values in self._space.items():
            setting[name] = optuna_study.suggested(trial, name, values)
        return [trial.number, setting]

    def _measured(self, number, setting) -> study.Found:
        try:
            ((columns, data),) = self._stages.check([setting])
        except UsageError as error:
            # It is one setting of many, and the others may be good.
            found = {column: {"impossible": str(error)} for column in self._columns}
        else:
            folder, report = self._folder / _name(number), self._report if self._prune else None
            with trackers.of_study(self._folder):
                found = self._stages.measure(setting, 0, columns, data, folder, report)
        if hosts.is_first():
            self._trial.set_user_attr("ended", {"setting": setting, "found": found})
            optuna_study.tell(self._trial, found[self._goal])
        return found

    def _report(self, step: int, measures: dict[str, float]) -> None:
        """Tells Optuna of a measure; raises Pruned where it gives the run up."""

        def decide():
            loss = measures.get("eval_ema_loss", measures.get("eval_loss"))
            loss = loss if loss is None or self._goal == LOSS else -loss
            return loss is not None and optuna_study.hopeless(self._trial, step, loss)

        if hosts.from_first(decide):
            raise Pruned(f"at step {step}")


def _mean(goal, row):
    return row[goal]["mean"]


def _name(number: int) -> str:
    return f"trial={number:04d}"


def _typed(setting):
    """A setting as JSON gives it back, with tuples in the place of lists."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in setting.items()}


def _corners(space) -> Iterator[grid.Setting]:
    """A setting in the middle of nowhere, and what differs from it in one extreme value."""
    extremes = {
        name: (v.low, v.high) if isinstance(v, grid.Range) else v for name, v in space.items()
    }
    base = {name: values[0] for name, values in extremes.items()}
    yield base
    for name, values in extremes.items():
        for value in values[1:]:
            yield base | {name: value}

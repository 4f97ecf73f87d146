"""The trials of a study, divided between processes that share its folder, on any machines."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mae_jax import hosts
from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.studies import claims, study
from mae_jax.train.stop import Stop

CLAIM = ".claim"
LOOK = 2.0  # seconds between looks at what others are at


class Division(study.Turns):
    """Each process takes what nobody else is at, and goes on until all trials are at their end.

    Args:
      trials: each with `kept`; the same in every process.
      folder: of the study.
      index, of: take only every `of`-th trial, from number `index` on; where the file system has
        no locks there is no other way to divide.
      wait: for trials that others are at; otherwise, and where there is an index, this process is
        done when nothing is left to take.

    Raises:
      UsageError: an index that does not fit; no locks, and no index.
    """

    def __init__(
        self,
        trials: Sequence[study.Trial],
        folder: Path,
        *,
        index: int | None = None,
        of: int | None = None,
        wait: bool = True,
    ):
        super().__init__(trials, folder)
        share(index, of)
        self._mine = range(len(trials)) if index is None else range(index, len(trials), of or 1)
        self._wait, self._locks = wait and index is None, True
        self.missing: list[study.Trial] = []  # that others are at, or have still to take
        if hosts.is_first():
            self._locks = locked(folder, divided=index is not None)

    def take(self, stop: Stop) -> Iterator[tuple[study.Trial, study.Found, bool]]:
        left, first, told = dict(enumerate(self._trials)), True, False
        while True:
            kept = hosts.from_first(lambda: self._kept(left))
            for number, found in kept:
                # What others came to the end of meanwhile counts for how fast all of it goes.
                yield left.pop(number), found, not first
            if first and kept and hosts.is_first():
                say(f"{len(kept)} of {len(self._trials)} trials were measured before")
            first = False
            if not left:
                return
            took = None
            for number in [number for number in left if number in self._mine]:
                took = self._try(left[number])
                if took is not None:
                    yield left.pop(number), *took
                    break
            if took is not None:
                continue
            if not self._wait:
                self.missing = list(left.values())
                if hosts.is_first():
                    said = f"not waited for: {self._others(self.missing)}"
                    say(f"{said}; the same command shows all of it once they are done")
                return
            if not told and hosts.is_first():
                say(f"waiting for what others are at: {self._others(left.values())}")
            told = True
            for _ in range(round(LOOK / 0.2)):
                if not stop:
                    time.sleep(0.2)
            if hosts.any_of(bool(stop)):
                total = len(self._trials)
                raise study.stopped(total - len(left), total, self._folder)

    def ended(self) -> list[tuple[study.Trial, study.Found]]:
        found = [(trial, trial.kept(self._folder / trial.name)) for trial in self._trials]
        return [(trial, kept) for trial, kept in found if kept is not None]

    @contextlib.contextmanager
    def publishing(self) -> Iterator[bool]:
        # Who looks last sees all, and writes last.
        with claims.waiting(self._folder / ".table"):
            yield hosts.is_first()

    def _kept(self, left):
        found = ((n, trial.kept(self._folder / trial.name)) for n, trial in left.items())
        return [(number, kept) for number, kept in found if kept is not None]

    def _try(self, trial) -> tuple[study.Found, bool] | None:
        """What a trial gave, and whether it was measured for that; None if another is at it."""
        with contextlib.ExitStack() as held:

            def look():
                path = self._folder / trial.name / CLAIM
                if self._locks and not held.enter_context(claims.claim(path)):
                    return ["taken", None]
                # Between the look before and the claim another may have come to its end.
                return ["ours", trial.kept(path.parent)]

            state, found = hosts.from_first(look)
            if state == "taken":
                return None
            return (found, False) if found else (study.measured(trial, self._folder), True)

    def _others(self, trials) -> str:
        names = [f"{t.name} ({claims.holder(self._folder / t.name / CLAIM)})" for t in trials]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return ", ".join(names[:3]) + more


def share(index: int | None, of: int | None) -> None:
    """Raises UsageError unless the two say a share of the trials, or nothing."""
    if (index is None) != (of is None):
        raise UsageError("--index=I and --of=N belong together: the I-th of N processes, from 0")
    if index is not None and not 0 <= index < (of or 0):
        raise UsageError(f"--index={index} must be from 0 to {(of or 0) - 1}, below --of={of}")


def locked(folder: Path, *, divided: bool) -> bool:
    """Whether processes that share a folder see each other's locks there.

    Raises:
      UsageError: they do not, and the trials are not divided otherwise.
    """
    try:
        claims.check(folder)
    except claims.NoLocks as reason:
        said = f"the file system of {str(folder)!r} has no locks to divide runs by ({reason})"
        if not divided:
            raise UsageError(
                f"{said}; say --index=I --of=N to each process, --index=0 --of=1 to a single one"
            ) from None
        say(f"{said}: each process does its own share only")
        return False
    return True

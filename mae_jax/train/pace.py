"""How fast a run goes, and when it will be done."""

import collections
import datetime
import time
from typing import NamedTuple

_WINDOW = 1.0  # seconds that a speed is measured over, at least
_ENOUGH = 5.0  # seconds of steps from which the time that is left can be told


class _Mark(NamedTuple):
    """When a step was done, in seconds spent on steps and on waiting for data since the start."""

    step: int
    worked: float
    waited: float


class Pace:
    """From when steps are done to images a second, the share of waiting, and the time that is left.

    A speed is over the time between the ends of two steps, a second apart or more where the run is
    as old as that: whether a step is looked at a little earlier or later does not show.

    Args:
      steps: how many the run has.
      steps_per_epoch: for the epoch shown.
      batch_size: images per step.
    """

    def __init__(self, *, steps: int, steps_per_epoch: float, batch_size: int):
        self._steps, self._per_epoch, self._batch = steps, steps_per_epoch, batch_size
        self._aside, self._waited = 0.0, 0.0
        self._latest: collections.deque[_Mark] = collections.deque(maxlen=2)
        self._window: collections.deque[_Mark] = collections.deque()
        self._first: _Mark | None = None

    def waited(self, seconds: float) -> None:
        """Time spent waiting for data."""
        self._waited += seconds

    def aside(self, seconds: float) -> None:
        """Time that went neither into steps nor into data: evaluation, saving."""
        self._aside += seconds

    def done(self, step: int) -> None:
        """A step is seen to be done; only the first time counts. Time runs from the first step on,
        which is mostly compiled.
        """
        latest = self._latest[-1].step if self._latest else step - 1
        for seen in range(latest + 1, step + 1):
            mark = _Mark(seen, time.perf_counter() - self._aside, self._waited)
            self._latest.append(mark)
        if self._first is None:
            self._first = mark
            self._window.append(mark)

    def measure(self, step: int) -> dict[str, float]:
        """Images a second and the share of waiting, up to one of the last two steps that are done.

        Empty for the first step of all.
        """
        mark = next(mark for mark in self._latest if mark.step == step)
        while len(self._window) > 1 and mark.worked - self._window[1].worked >= _WINDOW:
            self._window.popleft()
        since = self._window[0]
        if mark.step == since.step:
            return {}
        self._window.append(mark)
        seconds = max(mark.worked - since.worked, 1e-9)
        return {
            "images_per_second": (mark.step - since.step) * self._batch / seconds,
            "data_wait_share": min((mark.waited - since.waited) / seconds, 1.0),
        }

    @property
    def known(self) -> bool:
        """Whether there was time enough to say how long the rest will take."""
        return self._first is not None and self._latest[-1].worked - self._first.worked > _ENOUGH

    @property
    def left(self) -> datetime.timedelta | None:
        """What the steps to come will take, if they go like those before; None if nobody knows."""
        if self._first is None or self._latest[-1].step == self._first.step:
            return None
        last, first = self._latest[-1], self._first
        seconds = (last.worked - first.worked) / (last.step - first.step)
        return datetime.timedelta(seconds=round((self._steps - last.step) * seconds))

    def line(self, step: int, numbers: dict[str, float]) -> str:
        """One line about a step, from its numbers."""
        speed = ""
        if "images_per_second" in numbers:
            speed = (
                f"  {numbers['images_per_second']:.0f} images/s"
                f"  data wait {numbers['data_wait_share']:.0%}  eta {self.left}"
            )
        return (
            f"step {step}/{self._steps} ({step / self._steps:.0%})"
            f"  epoch {step / self._per_epoch:.1f}"
            f"  loss {numbers['loss']:.4f}  lr {numbers['lr']:.2e}{speed}"
        )

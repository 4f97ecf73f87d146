"""What a run tells the process that watches over it: what it does, and how long that may take.

`mae_jax.supervisor` listens at the other end of a pipe. Without one, as in a notebook, all of this
does nothing.
"""

import collections
import faulthandler
import json
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

FLOOR = 40.0  # seconds that every step may take: with what follows, an end within a minute
_SLOWER = 10  # times as long as the slowest of the latest steps
_LATEST = 50
_ENOUGH = 3  # steps, from which others are judged; of the first ones some are compiled
# For all that is no step: compiling, evaluation, saving. Whether others are dead or stopped is
# noticed sooner, whatever is done.
_OTHER = 1800.0
_APART = 1.0  # seconds between two beats of steps: a pipe that nobody reads is not filled


class _Beats:
    def __init__(self, pipe: int, stacks: int):
        self._pipe, self._stacks = pipe, stacks
        self.step_limit: float | None = None  # as told; learned otherwise
        self.watched = False
        self._took: collections.deque[float] = collections.deque(maxlen=_LATEST)
        self._since: float | None = None  # the step before was done
        self._sent = 0.0

    def send(self, **told: Any) -> None:
        try:
            os.write(self._pipe, json.dumps(told).encode() + b"\n")
        except OSError:  # full, as its reader is stopped; or gone
            return
        self._sent = time.monotonic()

    def limited(self, doing: str, seconds: float) -> None:
        if self.watched:
            self.send(doing=doing, limit=None if self.step_limit == 0 else seconds)

    def begin(self, step_limit: float | None) -> None:
        self.step_limit, self.watched = step_limit, True
        faulthandler.enable(self._stacks)  # crashes of C++ too leave their stacks there
        faulthandler.register(signal.SIGUSR1, self._stacks)
        self.send(process=0)

    def step(self, step: int) -> None:
        now = time.monotonic()
        if self._since is not None:
            self._took.append(now - self._since)
        changed, self._since = self._since is None, now
        if changed or len(self._took) <= _ENOUGH or now - self._sent >= _APART:
            self.limited(f"step {step + 1}", self.limit())

    def limit(self) -> float:
        """Seconds that the next step may take."""
        if len(self._took) < _ENOUGH:
            return _OTHER
        return self.step_limit or max(FLOOR, _SLOWER * max(self._took))

    def other(self, doing: str, seconds: float) -> None:
        self._since = None
        self.limited(doing, seconds)


_beats: _Beats | None = None


def connect(pipe: int, stacks: int) -> None:
    """Tells it to the process that reads from two pipes; stacks of threads go to the second."""
    global _beats
    _beats = _Beats(pipe, stacks)


def begin(step_limit: float | None = None) -> None:
    """From here on this process is part of a run, and has limits.

    Args:
      step_limit: seconds that a step may take; 0 for no limits at all, None to learn them.
    """
    if _beats is not None:
        _beats.begin(step_limit)
        unlimited("the start")


def place(process: int, folder: Path) -> None:
    """Which process of a run this is, and its work folder, which gets the stacks of threads."""
    if _beats is not None:
        _beats.send(process=process, folder=str(folder))


def step(done: int) -> None:
    """A step has been made, and the next is begun."""
    if _beats is not None:
        _beats.step(done)


def other(doing: str) -> None:
    """Something else than a step is begun, which may take long."""
    if _beats is not None:
        _beats.other(doing, _OTHER)


def ends(code: int) -> None:
    """This process has said why it ends; its code, whatever C++ does to it on the way."""
    if _beats is not None:
        _beats.send(code=code)


def unlimited(doing: str) -> None:
    """Something is begun that takes as long as it takes, such as preparing a data set."""
    if _beats is not None:
        _beats.other(doing, math.inf)

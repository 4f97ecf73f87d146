"""How long the trials of a study that are left will take."""

import collections
import datetime
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mae_jax import storage
from mae_jax.train.checkpoints import manifest

_WHOLE = 0.5  # of a trial: what was less is mostly start and end, and says little of a whole one


class Work(NamedTuple):
    """What a trial will have to do.

    Attributes:
      kind: trials of one kind take the same time, if all of each is to do.
      share: how much of it is to do; 0 where it came to its end before.
    """

    kind: str = ""
    share: float = 1.0


class Remaining:
    """Tells, from trials that came to their end, how long the others will take.

    Args:
      work: of all trials, in the order they end in.
    """

    def __init__(self, work: Iterable[Work]):
        self._left = collections.deque(work)
        self._spent: dict[str, list[float]] = {}  # by kind: seconds, and what they were spent on
        self._since = time.perf_counter()

    def ended(self, counts: bool = True) -> None:
        """The next trial came to its end.

        Args:
          counts: whether it was measured since the one before.
        """
        now = time.perf_counter()
        # Several processes of a search may have measured more than was asked for.
        work = self._left.popleft() if self._left else Work()
        if counts and work.share >= _WHOLE:
            spent = self._spent.setdefault(work.kind, [0.0, 0.0])
            spent[0] += now - self._since
            spent[1] += work.share
        self._since = now

    def words(self) -> str:
        """When the last of them will be done; nothing where nobody knows.

        Where there are kinds of which none was measured yet, it is what the others will take.
        """
        left = [work for work in self._left if work.share]
        known = [work for work in left if work.kind in self._spent]
        if not known:
            return ""
        rates = {kind: seconds / amount for kind, (seconds, amount) in self._spent.items()}
        seconds = round(sum(work.share * rates[work.kind] for work in known))
        more = " or more" if len(known) < len(left) else ""
        return f"eta {datetime.timedelta(seconds=seconds)}{more}"


def share_left(workdir: Path, planned: int | None = None) -> float:
    """Of a run: how much of its steps is still to make, by its last checkpoint.

    Args:
      planned: steps of the run; by default what the checkpoint says.
    """
    folder = workdir / "checkpoints"
    steps = manifest.steps(folder)
    if not steps:
        return 1.0
    path = folder / str(steps[-1]) / "position" / "metadata"
    try:
        said = json.loads(storage.patiently(f"reading {path}", path.read_bytes))["steps"]
        planned = said if planned is None else planned
        return max(0.0, 1 - steps[-1] / planned)
    except (FileNotFoundError, ValueError, LookupError, TypeError, ZeroDivisionError):
        return 1.0  # the run itself says what is wrong with it

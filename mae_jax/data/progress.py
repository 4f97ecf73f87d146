"""Lines on the terminal about work on many things: how far, how fast, until when."""

import contextlib
import datetime
import sys
import time


class Progress:
    """Says now and then how far work on many images is, and how long it will take.

    Args:
      total: images to do.
      every: seconds between lines.
      what: images, or what is counted instead.
      silent: say nothing, not even the last line, of work that is done before the first is due.
    """

    def __init__(
        self, total: int, every: float = 5.0, *, what: str = "images", silent: bool = False
    ):
        self._total, self._every, self._done = total, every, 0
        self._what, self._silent = what, silent
        self._began = self._said = time.perf_counter()

    def did(self, count: int) -> None:
        """Takes note of so many more."""
        self._done += count
        now = time.perf_counter()
        ended = self._done >= self._total and not self._silent
        if now - self._said < self._every and not ended:
            return
        self._said, self._silent = now, False
        rate = self._done / max(now - self._began, 1e-9)
        left = datetime.timedelta(seconds=round((self._total - self._done) / max(rate, 1e-9)))
        say(
            f"{self._done}/{self._total} {self._what} ({self._done / max(self._total, 1):.0%})  "
            f"{rate:.0f} {self._what}/s  eta {left}"
        )


def say(text: str) -> None:
    """A line for the person watching; stdout is kept for results.

    What it is written to may be gone, or a file on a full disk: that ends nothing.
    """
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)

"""Lines on the terminal about work on many images: how far, how fast, until when."""

import contextlib
import datetime
import sys
import time


class Progress:
    """Says now and then how far work on many images is, and how long it will take.

    Args:
      total: images to do.
      every: seconds between lines.
    """

    def __init__(self, total: int, every: float = 5.0):
        self._total, self._every, self._done = total, every, 0
        self._began = self._said = time.perf_counter()

    def did(self, images: int) -> None:
        """Takes note of `images` more."""
        self._done += images
        now = time.perf_counter()
        if now - self._said < self._every and self._done < self._total:
            return
        self._said = now
        rate = self._done / max(now - self._began, 1e-9)
        left = datetime.timedelta(seconds=round((self._total - self._done) / max(rate, 1e-9)))
        say(
            f"{self._done}/{self._total} images ({self._done / max(self._total, 1):.0%})  "
            f"{rate:.0f} images/s  eta {left}"
        )


def say(text: str) -> None:
    """A line for the person watching; stdout is kept for results.

    What it is written to may be gone, or a file on a full disk: that ends nothing.
    """
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)

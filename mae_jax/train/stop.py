"""Being told to stop: by SIGTERM, as machines are taken away, or by SIGINT."""

import contextlib
import signal
import time
from collections.abc import Iterator

from mae_jax.data.progress import say

_SAME = 1.0  # seconds in which a signal and the same one, handed on, come in either order


class Stop:
    """True once a signal to stop has come."""

    def __init__(self):
        self.asked, self._itself, self._when = False, False, 0.0

    def __bool__(self) -> bool:
        return self.asked

    def ask(self, *_) -> None:
        same = not self._itself and time.monotonic() - self._when < _SAME
        if self.asked and not same:
            raise KeyboardInterrupt  # asked twice: at once, without saving
        self._itself = True
        self.ask_once()

    def ask_once(self, *_) -> None:
        if self.asked:
            return
        self.asked, self._when = True, time.monotonic()
        say("stopping: this step is finished and saved first; once more stops at once")


_open: list[Stop] = []  # that of all runs of a study, if this is one of them


@contextlib.contextmanager
def stop_signal() -> Iterator[Stop]:
    """While it is open, SIGTERM and SIGINT ask to stop instead of ending the process.

    So does SIGUSR2, as which `mae_jax.supervisor` hands them on: not knowing whether they have come
    here too, it must not ask twice.

    Opened within another it gives that one: what is asked of a run is asked of all that it is
    one of, too.
    """
    if _open:
        yield _open[0]
        return
    stop = Stop()
    handlers = {signal.SIGTERM: stop.ask, signal.SIGINT: stop.ask, signal.SIGUSR2: stop.ask_once}
    try:
        old = {s: signal.signal(s, handler) for s, handler in handlers.items()}
    except ValueError:  # not the main thread: signals are its business
        old = {}
    _open.append(stop)
    try:
        yield stop
    finally:
        _open.remove(stop)
        for s, handler in old.items():
            signal.signal(s, handler)

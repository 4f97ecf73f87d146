"""Being told to stop: by SIGTERM, as machines are taken away, or by SIGINT."""

import contextlib
import signal
from collections.abc import Iterator

from mae_jax.data.progress import say


class Stop:
    """True once a signal to stop has come."""

    def __init__(self):
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked

    def ask(self, *_) -> None:
        if self.asked:
            raise KeyboardInterrupt  # asked twice: at once, without saving
        self.asked = True
        say("stopping: this step is finished and saved first; once more stops at once")


_open: list[Stop] = []  # that of all runs of a study, if this is one of them


@contextlib.contextmanager
def stop_signal() -> Iterator[Stop]:
    """While it is open, SIGTERM and SIGINT ask to stop instead of ending the process.

    Opened within another it gives that one: what is asked of a run is asked of all that it is
    one of, too.
    """
    if _open:
        yield _open[0]
        return
    stop = Stop()
    try:
        old = {s: signal.signal(s, stop.ask) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are its business
        old = {}
    _open.append(stop)
    try:
        yield stop
    finally:
        _open.remove(stop)
        for s, handler in old.items():
            signal.signal(s, handler)

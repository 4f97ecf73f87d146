"""How a process leaves a run of several for a reason of its own, and how the others learn of it.

They end with the same code: a launcher that starts the run again for the sake of one that only saw
another go would do so for ever.
"""

import atexit
import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

from mae_jax import beats
from mae_jax.errors import HostMissing

_LEFT = "mae_jax/left"
_LOOK = 1.0  # seconds between two looks for who has left
# What JAX says when another process is gone: Gloo, its coordination service, NCCL, Orbax.
_GONE = re.compile(
    r"gloo|coordination|UNAVAILABLE|DEADLINE_EXCEEDED|nccl|barrier timed out|heartbeat"
    r"|connection (closed|reset)|broken pipe|socket closed",
    re.IGNORECASE,
)
_alone = threading.Event()  # nobody is listened to any more
_last_word = threading.Lock()  # of the thread that says why this process ends; never given back


def _state() -> Any:
    """What JAX keeps of the processes; None where it keeps that elsewhere, or there is nothing."""
    try:
        from jax._src import distributed  # nothing public has the store that they share

        return distributed.global_state if distributed.global_state.client else None
    except (ImportError, AttributeError):
        return None


def listen() -> None:
    """From here on, ends this process when another of the run leaves."""

    def look():
        while not _alone.wait(_LOOK):
            left = _left()
            if left is not None and not _alone.is_set() and _last_word.acquire(blocking=False):
                beats.ends(left.exit_code)
                print(f"mae-jax: {left}", file=sys.stderr, flush=True)
                _exit(left.exit_code)

    def end():
        _alone.set()
        thread.join()

    _alone.clear()
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    atexit.register(end)  # before JAX says goodbye to the store


def _left() -> HostMissing | None:
    """Of the processes that have left, one that did so for a reason of its own, with its code."""
    try:
        entries = [json.loads(value) for _, value in _state().client.key_value_dir_get(_LEFT)]
    except (AttributeError, RuntimeError, ValueError):  # nor can it be known
        return None
    if not entries:
        return None
    process, code, reason = min(entries, key=lambda e: (e[1] == HostMissing.exit_code, e[0]))
    return HostMissing(f"process {process} has ended: {reason}", code)


def leave(code: int, reason: str, shown: str = "") -> None:
    """Ends this process at once if it is one of several; else does nothing.

    For what went wrong here only: an orderly end would wait for the others, which wait for this.

    Args:
      code: to end with.
      reason: for the others; nothing where it is that another is gone.
      shown: what is said here.
    """
    if not jax.distributed.is_initialized():
        return
    _alone.set()
    if not _last_word.acquire(blocking=False):
        threading.Event().wait()  # `listen` has said of another what this would, and ends it
    beats.ends(code)
    print(shown, end="", file=sys.stderr, flush=True)
    if not reason and code == HostMissing.exit_code:
        os._exit(code)  # what the others will see too
    state = _state()
    with contextlib.suppress(AttributeError, RuntimeError):
        state.client.key_value_set(f"{_LEFT}/{state.process_id}", json.dumps(
            [state.process_id, code, " ".join(reason.split())]
        ))  # fmt: skip
        time.sleep(2 * _LOOK)  # they read it first
    _exit(code)


def _exit(code: int) -> None:
    state = _state()
    if state is not None and state.process_id == 0:
        time.sleep(2 * _LOOK)  # it has the store, without which JAX aborts the others
    os._exit(code)


@contextlib.contextmanager
def missed() -> Iterator[None]:
    """Raises HostMissing where JAX says that another process is gone, in whatever way it does."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        said = _said(error)
        if not jax.distributed.is_initialized() or not _GONE.search(said):
            raise
        raise _left() or HostMissing(
            "another process of the run is gone, or cannot be reached; the same command, on all, "
            f"resumes ({said})"
        ) from error


def _said(error: BaseException | None) -> str:
    """What an error and its causes say that has to do with it, shortened to a line."""
    lines = []
    while error is not None:
        lines += str(error).splitlines()
        error = error.__cause__ or error.__context__
    lines = [line for line in lines if _GONE.search(line)] or lines
    return " ".join(lines[0].split())[:200] if lines else ""

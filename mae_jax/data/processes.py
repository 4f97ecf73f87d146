"""Processes that work on data: they have no business with the program that starts them."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import spawn
from typing import Any

import cloudpickle

from mae_jax.data import memory
from mae_jax.errors import WorkerDied


def cores() -> int:
    """That this process may use: a scheduler may have given it some of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """Processes that each have a copy of something, and call its methods.

    Args:
      held: what they have a copy of.
      count: how many.
    """

    def __init__(self, held: Any, count: int):
        context = multiprocessing.get_context("spawn")
        self._pool = concurrent.futures.ProcessPoolExecutor(
            count, context, _begin, (cloudpickle.dumps(held),)
        )

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown(cancel_futures=True)

    def in_order(self, method: str, arguments: Iterable[Any]) -> Iterator[Any]:
        """What the method gives for each argument, in their order."""
        return self._results(method, arguments, lambda waiting: waiting)

    def as_done(self, method: str, arguments: Iterable[Any]) -> Iterator[Any]:
        """The same, in the order in which they are done."""
        return self._results(method, arguments, concurrent.futures.as_completed)

    def _results(self, method, arguments, order) -> Iterator[Any]:
        try:
            with without_main():
                waiting = [self._pool.submit(_call, method, argument) for argument in arguments]
            for done in order(waiting):
                yield done.result()
        except BrokenProcessPool:
            raise WorkerDied(
                "a worker process has died; if memory ran out, fewer --workers need less"
            ) from None


_held: Any = None


def _begin(held: bytes) -> None:
    global _held
    _held = cloudpickle.loads(held)
    memory.keep_freed()  # the process does nothing else


def _call(method: str, argument: Any) -> Any:
    return getattr(_held, method)(argument)


_lock = threading.Lock()
_open = 0
_about: Callable[[str], dict[str, Any]] = spawn.get_preparation_data


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Processes that are started in here, by any thread, do not run the main module.

    By default each of them begins by running the program's file once more, as `__mp_main__`: a
    script that is not guarded by `if __name__ == "__main__"` would train again in each. What is
    sent to them must not lie in that file, or be pickled by value, as cloudpickle does.
    """
    global _open, _about
    with _lock:
        if not _open:
            _about, spawn.get_preparation_data = spawn.get_preparation_data, _without_main
        _open += 1
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            if not _open:
                spawn.get_preparation_data = _about


def _without_main(name: str) -> dict[str, Any]:
    return {k: v for k, v in _about(name).items() if not k.startswith("init_main_from")}

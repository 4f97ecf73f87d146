"""Batches made ahead, by threads or by processes that grain starts and watches."""

import atexit
import contextlib
import multiprocessing.connection
import os
import signal
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol

import grain
from absl import flags

from mae_jax.data import memory, processes
from mae_jax.data.records import Batch
from mae_jax.data.ring import Ring
from mae_jax.errors import BrokenRecord, WorkerDied

# What a process makes at a time. Small, so that with many processes the first batch comes soon and
# little memory waits; large enough that passing it on costs little.
_ROWS = 32


class Batches(Protocol):
    """What `mae_jax.data.loader.TrainBatches` is."""

    rows: Sequence[int]

    def __len__(self) -> int: ...

    def __getitem__(self, step: int) -> Batch: ...

    def empty(self, count: int) -> Batch: ...

    def piece(self, step: int, rows: Sequence[int], into: Batch) -> None: ...


def threads(batches: Batches, start: int) -> Iterator[Batch]:
    """Batches from step `start` on, whole batches at a time, for what costs little to make."""
    cores = processes.cores()
    options = grain.ReadOptions(num_threads=min(cores, 16), prefetch_buffer_size=min(2 * cores, 16))
    return _unwrapped(grain.MapDataset.source(batches)[start:].to_iter_dataset(options))


def ahead(batches: Batches, start: int, count: int) -> Iterator[Batch]:
    """Batches from step `start` on, by `count` processes that make a piece of a batch at a time.

    Only the numbers of pieces go through grain's queues; pixels and labels lie in a `Ring`.
    """
    made = _ahead(batches, start, count)
    # Closing needs modules that are gone soon after the process begins to end.
    atexit.register(_close, weakref.ref(made))
    return made


def _close(made: Callable[[], Generator | None]) -> None:
    generator = made()
    if generator is not None:
        generator.close()


def _ahead(batches: Batches, start: int, count: int) -> Generator[Batch, None, None]:
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain passes absl's flags on to its processes
    memory.keep_freed()  # for the batches, which are put together here
    rows = len(batches.rows)
    per_step = -(-rows // _ROWS)
    # Grain holds so many ready for each process twice, there and here: together about a batch. One
    # is on its way in either place, and one in work: with room for all no process ever waits.
    ready = -(-per_step // (2 * count))
    slots = count * (2 * ready + 3)
    ring = Ring(batches.empty(min(rows, _ROWS)), slots, start * per_step)
    made = (
        grain.MapDataset.source(_Pieces(batches, ring))[start * per_step :]
        .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        .mp_prefetch(grain.MultiprocessingOptions(count, per_worker_buffer_size=ready))
    )
    pieces = iter(made)
    with contextlib.ExitStack() as starting:
        # Grain's threads start the processes while the first pieces are waited for.
        starting.enter_context(processes.without_main())

        def started():
            starting.close()
            ring.unlink()  # all have it: now it is gone as soon as they are, however they end

        try:
            yield from _joined(_unwrapped(pieces), batches, ring, count, started)
        finally:
            ring.end()  # or a process would wait for its slot while grain waits for the process
            pieces.close()
            ring.unlink()


class _Pieces:
    """The pieces of all batches in a row, each made in its slot of a ring."""

    def __init__(self, batches: Batches, ring: Ring):
        self._batches, self._ring = batches, ring
        rows = batches.rows
        self._rows = [rows[at : at + _ROWS] for at in range(0, len(rows), _ROWS)]

    def __len__(self) -> int:
        return len(self._batches) * len(self._rows)

    def __getitem__(self, piece: int) -> tuple[int, int]:
        """(piece, process): what was made, and where."""
        step, part = divmod(piece, len(self._rows))
        rows = self._rows[part]
        self._ring.wait(piece)
        into = {name: values[: len(rows)] for name, values in self._ring.slot(piece).items()}
        self._batches.piece(step, rows, into)
        return piece, os.getpid()

    def __setstate__(self, state):
        self.__dict__ |= state
        threading.Thread(target=_end_with_parent, daemon=True).start()
        _leave_signals_to_parent()


def _leave_signals_to_parent() -> None:
    """Who asks a run to stop may ask all of its processes; the parent needs batches until then."""
    if multiprocessing.parent_process() is None:
        return
    with contextlib.suppress(ValueError):  # not the main thread
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


def _end_with_parent() -> None:
    """Ends this process when its parent was killed: nobody reads what it makes, or stops it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _joined(
    pieces: Iterator[tuple[int, int]],
    batches: Batches,
    ring: Ring,
    count: int,
    started: Callable[[], None],
) -> Iterator[Batch]:
    """Batches of pieces, copied: when a device has read its batch cannot be known here.

    `started` is called when all processes, `count` of them, have made one.
    """
    rows, seen = len(batches.rows), set()
    while True:
        batch = batches.empty(rows)
        for start in range(0, rows, _ROWS):
            piece, process = next(pieces, (None, None))
            if piece is None:
                return
            for name, values in ring.slot(piece).items():
                part = batch[name][start : start + _ROWS]
                part[:] = values[: len(part)]
            del values  # whoever holds it holds the ring
            ring.release(piece)
            seen.add(process)
            if len(seen) == count:
                started()
        yield batch


def _unwrapped(batches) -> Iterator[Batch]:
    """Brings errors of ours out of the wrapping that worker processes put around them."""
    try:
        yield from batches
    except Exception as error:
        broken = _cause(error)
        if broken is not None:
            raise broken from None
        if "terminated unexpectedly" in str(error):
            raise WorkerDied(
                f"a data worker process has died ({error}); if memory ran out, fewer data.workers "
                "need less. The same command resumes"
            ) from None
        raise


def _cause(error: BaseException) -> BaseException | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BrokenRecord):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None

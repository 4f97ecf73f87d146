"""Batches made ahead, by threads or by processes that grain starts and watches."""

import os
from collections.abc import Iterator, Sequence
from typing import Protocol

import grain
import numpy as np
from absl import flags

from mae_jax.data import memory
from mae_jax.errors import BrokenRecord, WorkerDied

Batch = dict[str, np.ndarray]
# What a process makes at a time. Small, so that with many processes the first batch comes soon and
# little memory waits; large enough that passing it on costs little.
_ROWS = 32


class Batches(Protocol):
    """What `mae_jax.data.loader.TrainBatches` is."""

    rows: Sequence[int]

    def __len__(self) -> int: ...

    def __getitem__(self, step: int) -> Batch: ...

    def piece(self, step: int, rows: Sequence[int]) -> Batch: ...


def threads(batches: Batches, start: int) -> Iterator[Batch]:
    """Batches from step `start` on, whole batches at a time, for what costs little to make."""
    cores = os.cpu_count() or 1
    options = grain.ReadOptions(num_threads=min(cores, 16), prefetch_buffer_size=min(2 * cores, 16))
    return _unwrapped(grain.MapDataset.source(batches)[start:].to_iter_dataset(options))


def ahead(batches: Batches, start: int, processes: int) -> Iterator[Batch]:
    """Batches from step `start` on, by processes that make a piece of a batch at a time."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain passes absl's flags on to its processes
    memory.keep_freed()  # for the batches, which are put together here
    pieces = _Pieces(batches)
    per_step = pieces.per_step
    # What a process holds ready, beside what it works on.
    ready = max(2, -(-2 * per_step // processes))
    made = (
        grain.MapDataset.source(pieces)[start * per_step :]
        .to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
        .mp_prefetch(grain.MultiprocessingOptions(processes, per_worker_buffer_size=ready))
    )
    return _joined(_unwrapped(made), per_step, len(batches.rows))


class _Pieces:
    """The pieces of all batches in a row."""

    def __init__(self, batches: Batches):
        self._batches = batches
        rows = batches.rows
        self._rows = [rows[at : at + _ROWS] for at in range(0, len(rows), _ROWS)]

    @property
    def per_step(self) -> int:
        return len(self._rows)

    def __len__(self) -> int:
        return len(self._batches) * len(self._rows)

    def __getitem__(self, index: int) -> Batch:
        step, part = divmod(index, len(self._rows))
        return self._batches.piece(step, self._rows[part])


def _joined(pieces: Iterator[Batch], per_step: int, rows: int) -> Iterator[Batch]:
    """Batches of pieces, which lie in shared memory that must not outlive its owner."""
    while True:
        batch: Batch = {}
        filled = 0
        for _ in range(per_step):
            piece = next(pieces, None)
            if piece is None:
                return
            count = len(piece["label"])
            for name, values in piece.items():
                if name not in batch:
                    batch[name] = np.empty((rows, *values.shape[1:]), values.dtype)
                batch[name][filled : filled + count] = values
            filled += count
            del piece, values  # or the last would lie in shared memory when the process ends
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

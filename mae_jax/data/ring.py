"""Shared memory that pieces of batches travel through, from worker processes to the one that reads.

It is allocated once: pages of new memory cost more than the pixels that are written to them.
"""

import os
import secrets
import time
import weakref
from multiprocessing import shared_memory

import numpy as np

from mae_jax.data.records import Batch
from mae_jax.errors import UsageError

_ALIGN = 64  # bytes; a cache line, so that no array shares one with the count before it
_WAIT = 0.002  # seconds
_ENDED = 2**63


class Ring:
    """Slots that are written in turn by worker processes and read by the process that made them.

    Piece k lies in slot k % slots. It is written there only after piece k - slots was released,
    whichever process makes it and however far ahead of the reader that process may run. Pieces
    are released in their order.

    The process that makes a ring unlinks it; pickled, it is the same memory in another process.

    Args:
      piece: arrays like those of the largest piece.
      slots: how many pieces there is room for.
      first: the first piece.

    Raises:
      UsageError: there is not enough shared memory.
    """

    def __init__(self, piece: Batch, slots: int, first: int):
        self._layout: dict[str, tuple[int, tuple[int, ...], np.dtype]] = {}
        self._stride = 0
        for name, values in piece.items():
            self._layout[name] = self._stride, values.shape, values.dtype
            self._stride += -(-values.nbytes // _ALIGN) * _ALIGN
        self._slots = slots
        size = _ALIGN + slots * self._stride
        name = f"mae_jax-{os.getpid()}-{secrets.token_hex(4)}"  # says whose it is
        self._memory = shared_memory.SharedMemory(name, create=True, size=size)
        # Once, and at the latest when this process ends.
        self.unlink = weakref.finalize(self, self._memory.unlink)
        _reserve(self._memory.name, size)
        self._released = first

    def __getstate__(self):
        kept = {k: v for k, v in self.__dict__.items() if k not in ("_memory", "unlink")}
        return kept | {"name": self._memory.name}

    def __setstate__(self, state):
        self._memory = shared_memory.SharedMemory(state.pop("name"))
        self.__dict__ |= state

    @property
    def _released(self) -> int:
        """The pieces before this one have been read."""
        return int(np.ndarray((), np.uint64, self._memory.buf)[()])

    @_released.setter
    def _released(self, piece: int) -> None:
        np.ndarray((), np.uint64, self._memory.buf)[()] = piece  # eight bytes aligned: whole

    def slot(self, piece: int) -> Batch:
        """Where a piece lies. Whoever holds these arrays holds the memory."""
        start = _ALIGN + piece % self._slots * self._stride
        return {
            name: np.ndarray(shape, dtype, self._memory.buf, start + offset)
            for name, (offset, shape, dtype) in self._layout.items()
        }

    def wait(self, piece: int) -> None:
        """Until a piece may be written to its slot."""
        while piece - self._released >= self._slots:
            time.sleep(_WAIT)

    def release(self, piece: int) -> None:
        """Lets what comes after a piece be written over it."""
        self._released = piece + 1

    def end(self) -> None:
        """Lets all be written that waits: nobody reads it any more."""
        self._released = _ENDED


def _reserve(name: str, size: int) -> None:
    """Takes the pages of shared memory now: where they lack later, the system kills who writes."""
    try:
        with open(f"/dev/shm/{name}", "r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, size)
    except (AttributeError, FileNotFoundError):
        return  # not on this system
    except OSError as error:
        raise UsageError(
            f"data workers need {size / 2**20:.0f} MiB of shared memory ({error}): give /dev/shm "
            "more (docker run --shm-size), or use fewer data.workers, or 0 for threads"
        ) from None

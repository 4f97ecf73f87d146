"""What a process asks of its host before it trains."""

import contextlib
import ctypes

import jax

_TRIM_THRESHOLD, _TOP_PAD = -1, -2  # mallopt(3)


def keep_freed_memory() -> None:
    """On a CPU, lets the C library keep memory that a step frees for the next one.

    XLA allocates its temporary buffers anew in every step. By default glibc hands them back to the
    kernel and faults them in again, which takes a fifth of a small step's time and more
    (benchmarks/host_memory.py).
    """
    if jax.default_backend() != "cpu":
        return
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_TOP_PAD, 2**28)

"""Memory of this process: kept between steps on CPUs, given back after large compilations.

XLA's CPU client allocates all temporaries of a program, gigabytes for a training step, each time
the program runs. glibc's malloc gives blocks of that size back to the system when they are freed,
so that the system finds, clears and maps every page again in every step.
"""

import ctypes
import gc
import os
import sys

import jax

# Of glibc's malloc.h and Linux's mman.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_ADVISE_HUGE_PAGES = 14
_HUGE_PAGE = 2**21


def keep() -> bool:
    """Where CPUs compute, lets this process keep what it frees, in huge pages if they are allowed.

    For programs, to be called once, before anything asks JAX for devices and after
    `jax.distributed.initialize`. It starts JAX's backend. Programs then run in the thread that
    calls them, because malloc does so for threads of their own without exception.

    Returns:
      Whether it does that: not beside accelerators, and for glibc alone.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.default_backend() != "cpu" or sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    # Blocks of any size lie in the heap then, which never gets shorter.
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    # Half of the machine's memory as addresses, for the heap to grow into: nothing is taken yet.
    # All at once, because huge pages are advised for addresses that are there already, and what
    # the heap grows by later would have none; glibc's own setting for them, glibc.malloc.hugetlb,
    # is read only when a process starts.
    libc.aligned_alloc.argtypes, libc.aligned_alloc.restype = [ctypes.c_size_t] * 2, ctypes.c_void_p
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.free.argtypes = [ctypes.c_void_p]
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 // _HUGE_PAGE * _HUGE_PAGE
    start = libc.aligned_alloc(_HUGE_PAGE, size)
    if start:
        libc.madvise(start, size, _ADVISE_HUGE_PAGES)
        libc.free(start)
    return True


def give_back() -> None:
    """Gives the system what a large compilation has freed, gigabytes that malloc would keep."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # of glibc alone
        libc.malloc_trim(0)

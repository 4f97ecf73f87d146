"""How the C library deals with memory that images come and go in."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names, in malloc.h
_MEBIBYTE = 2**20


def keep_freed() -> None:
    """Lets this process keep freed memory for its next images, where its C library is glibc.

    By default every buffer of more than 128 KiB goes back to the system and comes again, zeroed,
    page by page: a quarter of the time that a view of an ImageNet-sized photograph takes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # another C library: it has ways of its own
    mallopt(_MMAP_THRESHOLD, 32 * _MEBIBYTE)  # the most that is allowed
    mallopt(_TRIM_THRESHOLD, 256 * _MEBIBYTE)

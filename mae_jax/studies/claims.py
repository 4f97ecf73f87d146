"""Locks on files, by which processes on many machines divide what lies in a folder they share.

A lock is the kernel's, of the file itself: it goes when its process does, however that ends, and
a folder that is reached by another path has the same.
"""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from mae_jax.errors import UsageError

_NONE = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL)
# Mounted buckets and the like grant locks, but only to processes of the same machine.
_LOCAL = ("gcsfuse", "mountpoint-s3", "s3fs", "goofys", "geesefs", "rclone", "blobfuse2", "sshfs")


class NoLocks(Exception):
    """The file system has no locks, or none that other machines see; says which."""


@contextlib.contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Tries to hold a file, which is created if need be; gives whether this process does.

    Raises:
      NoLocks: there are none here.
    """
    with _opened(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            raise _explained(error) from error
        handle.truncate(0)
        handle.write(f"{socket.gethostname()}, process {os.getpid()}")
        handle.flush()
        yield True


@contextlib.contextmanager
def waiting(path: Path) -> Iterator[None]:
    """Holds a file, once others let it go; where there are no locks, at once."""
    with _opened(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NONE:
                raise
        yield


def holder(path: Path) -> str:
    """Who held a file last, in words."""
    try:
        return path.read_text() or "somebody"
    except OSError:
        return "somebody"


def check(folder: Path) -> None:
    """Raises NoLocks unless every process that works in a folder sees the locks of the others."""
    kind, options = _mounted(folder)
    if any(name in kind for name in _LOCAL):
        raise NoLocks(f"{kind} shows locks to this machine alone")
    if kind.startswith("nfs") and {"nolock", "local_lock=all", "local_lock=flock"} & set(options):
        raise NoLocks(f"{kind} is mounted without locks that other machines see")
    with _opened(folder / ".lock") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError as error:
            raise _explained(error) from error


def _opened(path: Path):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as error:
        raise UsageError(
            f"{str(path.parent)!r} cannot be written: {error.strerror}; give a --workdir that can"
        ) from None


def _explained(error: OSError) -> Exception:
    return NoLocks(error.strerror) if error.errno in _NONE else error


def _mounted(folder: Path) -> tuple[str, list[str]]:
    """Type and source of the file system that a folder lies on, and its options; Linux alone."""
    place, found = os.path.realpath(folder), ("", [])
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return found
    longest = -1
    for line in lines:
        source, at, kind, options, *_ = line.split(" ")
        at = at.replace("\\040", " ")
        inside = os.path.commonpath([place, at]) == at
        if inside and len(at) >= longest:  # of two at one place the later is seen
            longest, found = len(at), (f"{kind} {source}", options.split(","))
    return found

"""Storage that falters, or is full: which errors may pass, and trying again."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from mae_jax.data.progress import say
from mae_jax.errors import NoSpace, StorageFaltered

T = TypeVar("T")

PAUSES = (5.0, 30.0)  # seconds before something is tried the second and the third time
TRIES = len(PAUSES) + 1

_PASSING = (
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EREMOTEIO,
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOTCONN,
)
_STATUSES = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")  # TensorStore's


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room."""
    return _has(error, NoSpace.errnos)


def may_pass(error: BaseException) -> bool:
    """Whether an error is one of storage that may answer when it is asked again."""
    if is_full(error):
        return False
    return _has(error, _PASSING) or any(
        isinstance(cause, TimeoutError | StorageFaltered)
        or str(cause).lstrip().startswith(_STATUSES)
        for cause in _causes(error)
    )


def _has(error, codes) -> bool:
    # What TensorStore raises has no code, but ends with the system's words.
    words = [os.strerror(code) for code in codes]
    return any(
        getattr(cause, "errno", None) in codes or any(said in str(cause) for said in words)
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def patiently(what: str, action: Callable[[], T], tries: int = TRIES) -> T:
    """What an action gives, which is tried again where storage falters.

    Args:
      what: it does, as the beginning of a sentence.
      action: can be done again.
      tries: how often in all.

    Raises:
      StorageFaltered: it went wrong every time.
    """
    for attempt in range(1, tries + 1):
        try:
            return action()
        except StorageFaltered:
            raise
        except Exception as error:
            if not may_pass(error):
                raise
            if attempt == tries:
                raise StorageFaltered(faltered(what, error, tries)) from error
            pause = PAUSES[attempt - 1]
            say(f"{what} failed: {one_line(error)}; it is tried again in {pause:g} s")
            time.sleep(pause)
    raise AssertionError("unreachable")


def faltered(what: str, error: BaseException, tries: int) -> str:
    """The sentence that ends a run."""
    times = f" {tries} times" if tries > 1 else ""
    return (
        f"{what} failed{times}: {one_line(error)}; nothing that was saved is lost, and the same "
        "command goes on once the storage answers"
    )


def one_line(error: BaseException) -> str:
    """What an error says; its name, where it says nothing."""
    said, _, _ = str(error).partition(" [tensorstore_spec=")  # pages of it
    return " ".join(said.split()) or type(error).__name__


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder; unlike `Path.exists`, never no for want of an answer.

    Raises:
      OSError: the storage does not answer.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def entries(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where there is none. Unlike `Path.glob`, raises OSError."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []

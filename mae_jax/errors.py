"""The ways a run ends other than well, each with its exit code."""

import errno


def printable(text: str) -> str:
    """Text on one line that any terminal can show; file names may hold anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Ending(Exception):
    """A way to end that is known: it has its exit code, and its text says all there is to say."""

    exit_code: int


class _Sentence(Ending):
    """An error whose text is one line, whatever the names in it."""

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(_Sentence):
    """The user's mistake: one sentence that says what is wrong, the value, what would be right."""

    exit_code = 2


class BrokenRecord(_Sentence):
    """An image that cannot be read, or more than allowed; names the record and the reason."""

    exit_code = 3


class NoUsableCheckpoint(Ending):
    """Checkpoints are there, but none can be restored."""

    exit_code = 4


class Diverged(Ending):
    """Loss or gradients are no longer finite."""

    exit_code = 5


class NoSpace(Ending):
    """The disk is full; what was saved before is whole, and starting again helps once it is not."""

    exit_code = 6
    errnos = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of the system's errors that say so


class StorageFaltered(Ending):
    """The storage does not answer, asked again in vain; starting again may help."""

    exit_code = 43


class HostMissing(Ending):
    """Another process of the run did not come, or is gone; starting again may help.

    Args:
      message: which and why.
      exit_code: of that process, where it is known: if it ended for a reason that the same command
        meets again, so does this one.
    """

    exit_code = 43

    def __init__(self, message: str, exit_code: int = 43):
        super().__init__(message)
        self.exit_code = exit_code


class WorkerDied(Ending):
    """A process that makes batches is gone; starting again may help."""

    exit_code = 43


class Corrupted(Ending):
    """A device has other bits than those it must equal; it needs a look before a new start."""

    exit_code = 44


class Preempted(Ending):
    """The run was told to stop, has saved, and resumes when started again."""

    exit_code = 42

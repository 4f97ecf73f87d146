"""The ways a run ends other than well, each with its exit code."""


def printable(text: str) -> str:
    """Text on one line that any terminal can show; file names may hold anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class _Sentence(Exception):
    """An error whose text is one line, whatever the names in it."""

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(_Sentence):
    """The user's mistake: one sentence that says what is wrong, the value, what would be right."""

    exit_code = 2


class BrokenRecord(_Sentence):
    """An image that cannot be read, or more than allowed; names the record and the reason."""

    exit_code = 3


class NoUsableCheckpoint(Exception):
    """Checkpoints are there, but none can be restored."""

    exit_code = 4


class Diverged(Exception):
    """Loss or gradients are no longer finite."""

    exit_code = 5


class NoSpace(Exception):
    """The disk is full; what was saved before is whole, and starting again helps once it is not."""

    exit_code = 6


class StorageFaltered(Exception):
    """The storage does not answer, asked again in vain; starting again may help."""

    exit_code = 43


class HostMissing(Exception):
    """Another process of the run did not come, or does not answer; starting again may help."""

    exit_code = 43


class WorkerDied(Exception):
    """A process that makes batches is gone; starting again may help."""

    exit_code = 43


class Preempted(Exception):
    """The run was told to stop, has saved, and resumes when started again."""

    exit_code = 42

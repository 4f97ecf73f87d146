"""The ways a run ends other than well, each with its exit code."""


class UsageError(Exception):
    """The user's mistake: one sentence that says what is wrong, the value, what would be right."""

    exit_code = 2


class BrokenRecord(Exception):
    """An image that cannot be read, or more than allowed; names the record and the reason."""

    exit_code = 3


class NoUsableCheckpoint(Exception):
    """Checkpoints are there, but none can be restored."""

    exit_code = 4


class Diverged(Exception):
    """Loss or gradients are no longer finite."""

    exit_code = 5


class HostMissing(Exception):
    """Another process of the run did not come, or does not answer; starting again may help."""

    exit_code = 43


class WorkerDied(Exception):
    """A process that makes batches is gone; starting again may help."""

    exit_code = 43


class Preempted(Exception):
    """The run was told to stop, has saved, and resumes when started again."""

    exit_code = 42

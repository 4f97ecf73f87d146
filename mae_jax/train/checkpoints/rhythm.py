"""When a run saves: every so many epochs, steps or minutes, whichever its config gives."""

import time


class Rhythm:
    """After which steps a run saves, besides its last.

    Steps and epochs are the same for all processes of a run, and clocks are not: each process says
    when its minutes are over, and all save when they have heard of the first that said so.

    Args:
      task: of the run.
    """

    def __init__(self, task):
        self._task, self._settings = task, task.config.checkpoint
        self._saved, self._since = 0, time.monotonic()

    def is_over(self) -> bool:
        """Whether by this process's clock the minutes since the last save are over."""
        minutes = self._settings.every_minutes
        return minutes is not None and time.monotonic() - self._since >= 60 * minutes

    def is_due(self, step: int, over: bool) -> bool:
        """Whether to save after a step.

        Args:
          step: just made.
          over: whether any process said at the step before that its minutes are over.
        """
        settings, task = self._settings, self._task
        every = [n for n in (settings.every_steps, settings.keep_every_steps) if n is not None]
        epochs = [settings.every_epochs]
        if settings.keep_best is not None:  # the state that is measured has to be there
            epochs.append(task.config.log.eval_every_epochs)
        return (
            any(step % n == 0 for n in every)
            or any(task.is_due(step, n) for n in epochs if n is not None)
            # What was said at the step of a save was said of the time before it.
            or (over and step > self._saved + 1)
        )

    def saved(self, step: int) -> None:
        """Takes note of a save."""
        self._saved, self._since = step, time.monotonic()


def settle(checkpoint) -> None:
    """Lets a section `checkpoint` that gives no rhythm save once an epoch; changed in place."""
    names = ("every_epochs", "every_steps", "every_minutes")
    if all(checkpoint[name] is None for name in names):
        checkpoint.every_epochs = 1.0

"""Saving the states of one run; again, where storage falters."""

import contextlib
import time
from typing import Any

from mae_jax import hosts, leaving, storage
from mae_jax.data.progress import say
from mae_jax.errors import NoSpace, StorageFaltered
from mae_jax.train.checkpoints import checkpoint, saving
from mae_jax.train.state import TrainState


class Saver:
    """Saves states, in the background.

    A save that failed for want of an answer is made again, of the state that there is then, while
    the run goes on. In one process of several it ends that process instead: the others would wait
    in the middle of the save, and starting again is what helps all of them.

    Args:
      manager: of the run's checkpoints.
    """

    def __init__(self, manager: saving.Manager):
        self._manager = manager
        self._failures, self._under_way = 0, False
        self._again: float | None = None  # when to try again, by time.monotonic

    def save(
        self,
        state: TrainState,
        position: dict[str, Any],
        config: dict[str, Any],
        *,
        wait: bool = False,
    ) -> None:
        """Starts to save a state.

        Args:
          state, position, config: as of `checkpoint.save`.
          wait: until it is written, however often it is tried.

        Raises:
          NoSpace: the disk is full.
          StorageFaltered: this failed, and so did those before, as often as is tried.
        """
        while True:
            try:
                self._finish()
                checkpoint.save(self._manager, state, position, config)
                self._under_way, self._again = True, None
                if wait:
                    self._finish()
                return
            except Exception as error:
                self._take_note(error)
            if not wait:
                return
            time.sleep(max(0.0, self._again - time.monotonic()))

    def is_due(self) -> bool:
        """Whether a save failed that is now to be made again; to be asked after every step.

        Raises:
          As `save`.
        """
        error = self._manager.failure
        if error is not None:
            if not hosts.several():
                with contextlib.suppress(Exception):  # Orbax raises it once more, to who waits
                    self._manager.wait_until_finished()
            self._take_note(error)
        return self._again is not None and time.monotonic() >= self._again

    def _finish(self):
        self._manager.wait_until_finished()
        if self._under_way:
            self._failures, self._under_way = 0, False

    def _take_note(self, error):
        """Raises what ends the run, or says that the save is to be made again, and when."""
        self._under_way, self._manager.failure = False, None
        what = f"saving to {self._manager.directory}"
        self._failures += 1
        if storage.is_full(error):
            ending = error if isinstance(error, NoSpace) else saving.no_space(self._manager)
        elif not storage.may_pass(error):
            raise error
        elif self._failures == storage.TRIES or hosts.several():
            ending = StorageFaltered(storage.faltered(what, error, self._failures))
        else:
            pause = storage.PAUSES[self._failures - 1]
            say(f"{what} failed: {storage.one_line(error)}; it is tried again in {pause:g} s")
            self._again = time.monotonic() + pause
            saving.forget_unfinished(self._manager)
            return
        # An orderly end would wait for the others, which wait in the middle of the save.
        leaving.leave(ending.exit_code, str(ending), f"mae-jax: {ending}\n")
        raise ending from error

    def close(self) -> None:
        """Waits for what is being written; that it failed is only said, for the run has ended."""
        try:
            self._manager.close()
        except Exception as error:
            if not storage.may_pass(error):
                raise
            say(f"the last checkpoint was not written: {storage.one_line(error)}")

"""A thread that tells one tracker what a run has told, and that the run never waits for."""

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mae_jax.data.progress import say
from mae_jax.train.checkpoints import manifest
from mae_jax.train.trackers.feed import Feed
from mae_jax.train.trackers.told import study, told
from mae_jax.train.trackers.tracker import End, Tracker

LOOK = 1.0  # seconds between looks whether a checkpoint is whole
_AT_ONCE = 100  # steps handed on together
_identity = threading.Lock()


class Sender:
    """Tells one tracker what will stay as it is, once it will, and again where it could not.

    Lines of `metrics.jsonl` that are later than the last whole checkpoint are dropped when the run
    is killed, and made again, perhaps with other values: no tracker can take back what it has. So
    it is told of a step when a checkpoint holds it. What it has already, the tracker itself says
    at every start; nothing is noted of that here, which could be wrong after a kill.

    Args:
      name: of the tracker.
      make: gives one that is not connected.
      folder: the work folder.
      config: every key, named with dots.
      resumed_at: the step this start begins at.
      encoder: whether the tracker gets the exported encoder, when the run has finished.
      announce: says where the tracker can be looked at.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Tracker],
        folder: Path,
        config: dict[str, Any],
        *,
        resumed_at: int,
        encoder: bool,
        announce: Callable[[str], None],
    ):
        self._name, self._make, self._folder, self._config = name, make, folder, config
        self._resumed_at, self._encoder, self._announce = resumed_at, encoder, announce
        self._study = study()  # of the thread that runs it, not of the one that tells
        self._change = threading.Condition()
        self._told_up_to: list[int] = []  # steps whose checkpoints may not be whole yet
        self._end: tuple[End, str] | None = None
        self._tracker: Tracker | None = None
        self._feed, self._settled, self._faltered = Feed(folder), 0, False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def settles(self, step: int) -> None:
        """All is told of this step and those before, and stays once a checkpoint holds it."""
        with self._change:
            self._told_up_to.append(step)
            self._change.notify()

    def end(self, end: End, reason: str) -> None:
        """This start of the run is at its end; what is still to be sent is."""
        with self._change:
            self._end = end, reason
            self._change.notify()

    def wait(self, seconds: float) -> None:
        """Waits for the thread, so many seconds at most."""
        self._thread.join(seconds)
        if self._thread.is_alive() and not self._faltered:
            say(f"{self._name} still lacks something; the same command sends it")

    def _work(self) -> None:
        end = None
        while end is None:
            with self._change:
                end = self._end  # before what was told until then is sent
            try:
                self._connect()
                self._send()
                if end is not None:
                    self._close(*end)
                if self._faltered:
                    say(f"{self._name} is told again, and lacks nothing")
                self._faltered = False
            except Exception as error:  # the library's, of its threads, of the network, of a disk
                self._drop(error)
            if end is None:
                self._wait()

    def _connect(self) -> None:
        if self._tracker is not None:
            return
        with _identity:
            run = told(self._folder, self._config, self._study)
        tracker = self._make()
        self._tracker, self._feed = tracker, Feed(self._folder)
        last = tracker.connect(run)
        if tracker.place:
            self._announce(f"{self._name}: {tracker.place}")
        if last > max(self._resumed_at, self._settled):
            say(
                f"{self._name} has steps up to {last} from before this run went back to step "
                f"{self._resumed_at}: they stay there as they were; metrics.jsonl has them anew"
            )
        self._resumed_at = max(last, self._resumed_at)  # said once

    def _send(self) -> None:
        whole = max(manifest.steps(self._folder / "checkpoints"), default=0)
        with self._change:
            settled = max((step for step in self._told_up_to if step <= whole), default=0)
            self._told_up_to = [step for step in self._told_up_to if step > settled]
        self._settled = max(settled, self._settled)
        entries = self._feed.until(self._settled)
        while some := list(itertools.islice(entries, _AT_ONCE)):
            self._tracker.send(some)

    def _close(self, end: End, reason: str) -> None:
        wanted = end == "finished" and self._encoder
        if wanted and not self._tracker.has_encoder(self._settled):
            with tempfile.TemporaryDirectory() as made:
                folder = Path(made) / "encoder"
                _export(self._folder, folder)
                self._tracker.send_encoder(folder, self._settled)
        self._tracker.close(end, reason)

    def _wait(self) -> None:
        """Until there may be something to send; after an error, until there is more of it."""
        with self._change:
            told = list(self._told_up_to)
            look = LOOK if told and not self._faltered else None
            self._change.wait_for(lambda: self._end or self._told_up_to != told, look)

    def _drop(self, error: Exception) -> None:
        tracker, self._tracker = self._tracker, None
        if not self._faltered:
            reason = " ".join(str(error).split()) or type(error).__name__
            say(
                f"{self._name} cannot be told of the run, which goes on: {reason}; what it lacks "
                "is sent when it can be, or by the next start"
            )
        self._faltered = True
        if tracker is not None:
            with contextlib.suppress(Exception):
                tracker.drop()


def _export(run: Path, folder: Path) -> None:
    """Exports a run's encoder, in a process of its own.

    Reading a checkpoint would wait for the other processes of this run, and take the accelerator.
    """
    command = [sys.executable, "-m", "mae_jax.cli", "export", str(run), f"--out={folder}"]
    made = subprocess.run(
        [*command, "--format=safetensors", "--part=encoder"],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    if made.returncode:
        raise RuntimeError(f"the encoder was not exported: {made.stderr.strip()[-500:]}")

"""Weights & Biases: online, or offline for `wandb sync`, as WANDB_MODE says.

The project is WANDB_PROJECT, or "mae_jax"; the run's id is ours. A step is a row of its history,
with all that was told of it. Rows only ever follow one another: what is of the last row's step or
before is not written again, and the last row is what W&B itself knows of the run, from its server,
or offline from the files in the work folder's `wandb/`, which are read back (`wandb_files`). Rows
that were on their way when a process was killed lack there and are sent again.
"""

import os
import time
from pathlib import Path
from typing import Any

from mae_jax.train.trackers import wandb_files
from mae_jax.train.trackers.tracker import End, Entry, Told, Tracker

_FINISH = 25  # seconds that the end waits for W&B to upload
_WRITTEN = 5.0  # seconds that it may take to write to its file


class Library(Tracker):
    """A run in Weights & Biases."""

    needs = "wandb"

    def __init__(self):
        self._run: Any = None
        self._folder, self._id, self._last = Path(), "", 0

    def connect(self, told: Told) -> int:
        # What it says of itself goes to the terminal otherwise, at its own times.
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        # Asks nobody at the terminal, where training goes on.
        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            raise RuntimeError(
                "W&B knows no API key: `wandb login`, WANDB_API_KEY, or WANDB_MODE=offline"
            )
        # Read before this start begins a file of its own.
        self._folder, self._id = told.folder / "wandb", told.id
        written = wandb_files.last_step(self._folder, self._id)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mae_jax"),
            id=told.id,
            name=told.name,
            group=told.group,
            resume="allow",
            dir=told.folder,
            reinit="create_new",  # leaves a run of the process's own alone
            settings=wandb.Settings(
                console="off", finish_timeout=_FINISH, finish_timeout_raises=True
            ),
        )
        self._run.config.update(told.config, allow_val_change=True)
        if self._run.offline:
            self._last = written
            self.place = f"offline; wandb sync {self._folder}"
        else:
            self._last = max(0, self._run.starting_step - 1)  # of a new run, or an empty one, 0
            self.place = self._run.url or ""
        return self._last

    def send(self, entries: list[Entry]) -> None:
        import wandb

        for entry in entries:
            if entry.step <= self._last:
                continue
            row: dict[str, Any] = dict(entry.numbers)
            if entry.panel is not None:
                row["reconstruction"] = wandb.Image(str(entry.panel))
            self._run.log(row, step=entry.step, commit=True)
            self._last = entry.step

    def send_encoder(self, folder: Path, step: int) -> None:
        import wandb

        # The same files again are the same version to W&B.
        made = wandb.Artifact(f"encoder-{self._run.id}", type="model", metadata={"step": step})
        for file in sorted(folder.iterdir()):
            made.add_file(str(file))
        self._run.log_artifact(made)

    def close(self, end: End, reason: str) -> None:
        if reason:
            self._run.summary["ended"] = reason
        if end == "stopped":
            self._run.mark_preempting()
        self._run.finish(exit_code=int(end != "finished"))
        # W&B says that it has finished some milliseconds before all is in its file.
        until = time.monotonic() + _WRITTEN
        while self._run.offline and wandb_files.last_step(self._folder, self._id) < self._last:
            if time.monotonic() > until:
                raise TimeoutError(f"W&B has not written all of the run to {self._folder}")
            time.sleep(0.01)

    def drop(self) -> None:
        if self._run is not None:
            self._run.finish(exit_code=1)

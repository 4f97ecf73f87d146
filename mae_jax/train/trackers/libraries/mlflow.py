"""MLflow: a run on the server, or in the database, that MLFLOW_TRACKING_URI names.

The experiment is MLFLOW_EXPERIMENT_NAME, or "mae_jax". A run is found again by the tag
`mae_jax.id`, and what it has is asked of it: each number by its name and step, each file by its
name.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from mae_jax.train.trackers.tracker import End, Entry, Told, Tracker

_ID, _ENDED, _ENCODER = "mae_jax.id", "mae_jax.ended", "mae_jax.encoder"
_NUMBERS = 1000  # that MLflow takes at once, all or none of them
_KEYS, _LONGEST = 100, 6000  # parameters that it takes at once, and characters of each
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class Library(Tracker):
    """A run in MLflow."""

    needs = "mlflow"

    def __init__(self):
        self._client: Any = None
        self._run = ""
        self._steps: dict[str, set[int]] = {}  # that are there, of each number
        self._files: set[str] = set()

    def connect(self, told: Told) -> int:
        from mlflow import MlflowClient

        # Stdout is for results; the run's address is said by who asks for `place`.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        self._client = MlflowClient()
        found = self._found(told)
        self._run = found.info.run_id
        self._write_config(told, found.data.params)
        for name in found.data.metrics:
            history = self._client.get_metric_history(self._run, name)
            self._steps[name] = {metric.step for metric in history}
        self._files = {file.path for file in self._client.list_artifacts(self._run, "panels")}
        where = self._client.tracking_uri
        self.place = f"run {self._run} of {where}"
        if where.startswith("http"):
            self.place = f"{where}/#/experiments/{found.info.experiment_id}/runs/{self._run}"
        return max((step for steps in self._steps.values() for step in steps), default=0)

    def _found(self, told: Told):
        from mlflow.exceptions import MlflowException

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "mae_jax")
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            with contextlib.suppress(MlflowException):  # another run has just made it
                self._client.create_experiment(name)
            experiment = self._client.get_experiment_by_name(name)
        where = [experiment.experiment_id]
        runs = self._client.search_runs(where, f"tags.`{_ID}` = '{told.id}'", max_results=1)
        if not runs:
            tags = {_ID: told.id, "workdir": str(told.folder)}
            tags |= {} if told.group is None else {"study": told.group}
            return self._client.create_run(where[0], tags=tags, run_name=told.name)
        if _ENDED in runs[0].data.tags:
            self._client.delete_tag(runs[0].info.run_id, _ENDED)
        self._client.update_run(runs[0].info.run_id, status="RUNNING")
        return runs[0]

    def _write_config(self, told, known):
        """Parameters as they were at first, for MLflow changes none; what was changed, as tags."""
        from mlflow.entities import Param, RunTag

        config = {name: str(value)[:_LONGEST] for name, value in told.config.items()}
        fresh = [Param(name, value) for name, value in config.items() if name not in known]
        for at in range(0, len(fresh), _KEYS):
            self._client.log_batch(self._run, params=fresh[at : at + _KEYS])
        changed = [RunTag(f"now.{n}", v) for n, v in config.items() if known.get(n, v) != v]
        for at in range(0, len(changed), _KEYS):
            self._client.log_batch(self._run, tags=changed[at : at + _KEYS])

    def send(self, entries: list[Entry]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        lacking = [
            Metric(name, float(value), now, entry.step)
            for entry in entries
            for name, value in entry.numbers.items()
            if entry.step not in self._steps.setdefault(name, set())
        ]
        for at in range(0, len(lacking), _NUMBERS):
            some = lacking[at : at + _NUMBERS]
            self._client.log_batch(self._run, metrics=some)
            for metric in some:
                self._steps[metric.key].add(metric.step)
        for entry in entries:
            if entry.panel is not None and f"panels/{entry.panel.name}" not in self._files:
                self._client.log_artifact(self._run, str(entry.panel), "panels")
                self._files.add(f"panels/{entry.panel.name}")

    def has_encoder(self, step: int) -> bool:
        return self._client.get_run(self._run).data.tags.get(_ENCODER) == str(step)

    def send_encoder(self, folder: Path, step: int) -> None:
        self._client.log_artifacts(self._run, str(folder), f"encoder/step_{step:08d}")
        self._client.set_tag(self._run, _ENCODER, str(step))  # once all of it is there

    def close(self, end: End, reason: str) -> None:
        if reason:
            self._client.set_tag(self._run, _ENDED, reason)
        self._client.set_terminated(self._run, _STATUS[end])

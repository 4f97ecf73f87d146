"""Which runs belong to which row of a study."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mae_jax.config import PRETRAINING
from mae_jax.reports.read import Run

# What rows of studies call other than the config does.
_KEYS = {"labels": "data.labels_per_class", "blocks": "train.trained_blocks"}


def rows_of(runs: Sequence[Run], rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """The row of each run, by the run's name; runs that fit none are left out.

    What follows a pre-training in the same folder belongs to the row of that.
    """
    leading, found, beside = _leading(runs), {}, {}
    for run in leading:
        at = next((at for at, row in enumerate(rows) if _fits(row, run.config)), None)
        if at is not None:
            found[run.name] = beside[run.folder.parent] = at
    for run in runs:
        if run not in leading and run.folder.parent in beside:
            found[run.name] = beside[run.folder.parent]
    return found


def step_seconds(runs: Sequence[Run], rows: Mapping[str, int], count: int) -> list[float | None]:
    """The median time of a step of every row's runs; of those that pre-train, where some do.

    Args:
      rows: as of `rows_of`.
      count: of all rows.
    """
    found: list[list[float]] = [[] for _ in range(count)]
    for run in _leading(runs):
        if run.name in rows and run.step_seconds is not None:
            found[rows[run.name]].append(run.step_seconds)
    return [statistics.median(times) if times else None for times in found]


def _leading(runs):
    """Those that pre-train, where there are any: what follows has other settings."""
    return [r for r in runs if r.config.get("train.objective") in PRETRAINING] or list(runs)


def _fits(row, config) -> bool:
    """Whether a run is of a row, by what the row says of its config."""
    said = 0
    for name, value in row.items():
        key = _KEYS.get(name, name)
        if name == "method":
            if value != ("pretrained" if config.get("init_from") else "scratch"):
                return False
        elif key not in config or (value is None and name in _KEYS):
            continue
        elif (None if name in _KEYS and value == "all" else value) != config[key]:
            return False
        said += 1
    return said > 0

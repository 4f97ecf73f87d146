"""What a work folder tells of its run, whatever state it is in."""

import dataclasses
import functools
import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

from mae_jax.config import flatten
from mae_jax.train import metrics
from mae_jax.train.checkpoints import manifest

Series = dict[str, list[tuple[int, float]]]
_PANEL = re.compile(r"step_(\d+)\.png")


@dataclasses.dataclass(frozen=True)
class Run:
    """One run, as its work folder has it.

    Attributes:
      folder: the work folder.
      name: what it is called on the page.
      record: `config.json`; nothing where it cannot be read.
      series: of every number in `metrics.jsonl`, steps and values in their order; a value that was
        not finite is NaN.
      position: of the latest checkpoint that can be read.
      checkpoints: the steps that were saved.
      panels: step and path of every panel, in their order.
      plan: estimates, as `mae-jax plan --json` prints them.
      notes: a sentence for whatever is missing or cannot be read.
    """

    folder: Path
    name: str
    record: dict[str, Any]
    series: Series
    position: dict[str, Any]
    checkpoints: list[int]
    panels: list[tuple[int, Path]]
    plan: list[dict[str, Any]]
    notes: list[str]

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """Values by their dotted names."""
        return flatten(self.record.get("config", {}))

    @property
    def step(self) -> int:
        """The last that is recorded or saved; 0 where there is none."""
        recorded = [points[-1][0] for points in self.series.values()]
        return max([*recorded, *self.checkpoints, 0])

    @property
    def steps(self) -> int | None:
        """How many the run has; None where neither config nor checkpoint says it."""
        for steps in (self.config.get("train.steps"), self.position.get("steps")):
            if _whole(steps):
                return max(steps, self.step)
        return None

    @property
    def step_seconds(self) -> float | None:
        """The median time of a step, with what it waited for data; None where nothing says it."""
        speeds = [v for _, v in self.series.get("images_per_second", ()) if v > 0]
        batch = self.config.get("data.batch_size")
        return batch / statistics.median(speeds) if speeds and _whole(batch) else None

    def last(self, name: str) -> tuple[int, float] | None:
        """The last step at which something was measured, and what."""
        points = self.series.get(name)
        return points[-1] if points else None


def read(folder: Path, name: str) -> Run:
    """Reads what there is."""
    notes: list[str] = []
    saved = folder / "checkpoints"
    steps = manifest.steps(saved) if saved.is_dir() else []
    return Run(
        folder=folder,
        name=name,
        record=_record(folder, notes),
        series=_series(folder, notes),
        position=_position(saved, steps),
        checkpoints=steps,
        panels=_panels(folder),
        plan=_plan(folder, notes),
        notes=notes,
    )


def is_run(folder: Path) -> bool:
    """Whether a folder is the work folder of a run, or what is left of one."""
    if (folder / "metrics.jsonl").is_file():
        return True
    record = _json(folder / "config.json")  # exported weights have a file of this name, too
    return isinstance(record, dict) and isinstance(record.get("config"), dict)


def _record(folder, notes) -> dict[str, Any]:
    record = _json(folder / "config.json")
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        notes.append("config.json is missing, or cannot be read: settings and versions are unknown")
        return {}
    for name, kind in (("versions", dict), ("hardware", dict), ("changed", list)):
        if not isinstance(record.get(name, kind()), kind):
            record.pop(name)
    return record


def _series(folder, notes) -> Series:
    if not (folder / "metrics.jsonl").is_file():
        notes.append("There is no metrics.jsonl yet: no step was recorded")
        return {}
    try:
        lines = metrics.read(folder)
    except (OSError, ValueError) as error:
        notes.append(f"metrics.jsonl cannot be read: {error}")
        return {}
    found: dict[str, dict[int, float]] = {}
    for line in lines:
        step = line.get("step") if isinstance(line, dict) else None
        if not _whole(step):
            continue
        for name, value in line.items():
            if name != "step" and (number := _number(value)) is not None:
                found.setdefault(name, {})[step] = number
    if not found:
        notes.append("metrics.jsonl is empty: no step was recorded yet")
    return {name: sorted(points.items()) for name, points in found.items()}


def _number(value) -> float | None:
    """A number, NaN where it was not finite; None where it is something else."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _position(saved, steps) -> dict[str, Any]:
    for step in reversed(steps):
        found = _json(saved / str(step) / "position" / "metadata")
        if isinstance(found, dict):
            return found
    return {}


def _panels(folder) -> list[tuple[int, Path]]:
    found = []
    for path in folder.glob("panels/step_*.png"):
        if match := _PANEL.fullmatch(path.name):
            found.append((int(match[1]), path))
    return sorted(found)


def _plan(folder, notes) -> list[dict[str, Any]]:
    try:
        text = (folder / "plan.json").read_text()
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        text = "?"
    try:
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        found = None
    if not found or not all(isinstance(line, dict) and "topology" in line for line in found):
        notes.append("plan.json is not what `mae-jax plan --json` prints, and is left out")
        return []
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None

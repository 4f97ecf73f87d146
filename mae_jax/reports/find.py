"""What a report is about: a run, a study of many, or whatever runs lie below a folder."""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mae_jax.errors import UsageError
from mae_jax.reports import read
from mae_jax.studies import study

_DEPTH = 6  # folders below the one that is reported on
_OF_A_RUN = ("checkpoints", "panels", "tensorboard", "features")
_RUNS, _STUDIES = 500, 20  # on one page, at most


@dataclasses.dataclass(frozen=True)
class Study:
    """One table of runs.

    Attributes:
      folder: that it lies in.
      name: what it is called on the page.
      rows: of `comparison.json`.
      sweep: what `sweep.json` says; nothing where there is none.
      notes: a sentence for whatever is missing or cannot be read.
    """

    folder: Path
    name: str
    rows: list[dict[str, Any]]
    sweep: dict[str, Any]
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a page is about.

    Attributes:
      folder: that was asked for.
      runs: below it, in the order of their names; the folder itself, if that is a run.
      studies: in it and below it.
      notes: a sentence for whatever was left out.
    """

    folder: Path
    runs: list[read.Run]
    studies: list[Study]
    notes: list[str]

    @property
    def alone(self) -> bool:
        """Whether it is a run and nothing else."""
        return not self.studies and len(self.runs) == 1 and self.runs[0].folder == self.folder


def find(source: str | Path) -> Found:
    """Looks at what lies in a folder and below it.

    Raises:
      UsageError: no run and no study.
    """
    # Not resolved: what is shown is the path that was given.
    folder = Path(os.path.abspath(Path(source).expanduser()))
    if not folder.is_dir():
        raise UsageError(f"{str(source)!r} is not a folder; give the work folder of a run or study")
    if read.is_run(folder):
        return Found(folder, [read.read(folder, folder.name)], [], [])
    runs, studies, notes = [], [], []
    for path in _below(folder, set()):
        name = path.relative_to(folder).as_posix() if path != folder else folder.name
        if (path / study.JSON).is_file() or (path / "sweep.json").is_file():
            studies.append((path, name))
        elif read.is_run(path):
            runs.append((path, name))
    if not runs and not studies:
        raise UsageError(
            f"{str(source)!r} is neither the work folder of a run nor of a study, and none lies "
            "below it"
        )
    for found, most, what in ((runs, _RUNS, "runs"), (studies, _STUDIES, "studies")):
        if len(found) > most:
            notes.append(f"Of {len(found)} {what}, the first {most} by name are on this page")
    return Found(
        folder,
        [read.read(*found) for found in runs[:_RUNS]],
        [_study(*found) for found in studies[:_STUDIES]],
        notes,
    )


def _below(folder: Path, seen: set[str], depth: int = 0) -> Iterator[Path]:
    """A folder and those below it, each once, without what belongs to a run."""
    if os.path.realpath(folder) in seen:
        return
    seen.add(os.path.realpath(folder))
    yield folder
    if depth == _DEPTH:
        return
    try:
        inside = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return
    for name in inside:
        if name not in _OF_A_RUN and not name.startswith("."):
            yield from _below(folder / name, seen, depth + 1)


def _study(folder: Path, name: str) -> Study:
    notes, rows, sweep = [], [], {}
    try:
        rows = json.loads((folder / study.JSON).read_text())
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError
    except FileNotFoundError:
        notes.append(f"There is no {study.JSON} yet: no trial has come to its end")
    except (OSError, ValueError, RecursionError):
        rows = []
        notes.append(f"{study.JSON} cannot be read; it is written anew when a trial ends")
    try:
        sweep = json.loads((folder / "sweep.json").read_text())
        if not isinstance(sweep, dict):
            raise ValueError
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RecursionError):
        sweep = {}
        notes.append("sweep.json cannot be read: what the sweep was asked for is unknown")
    return Study(folder, name, rows, sweep, notes)

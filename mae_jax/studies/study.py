"""Many runs as one: trials, each in a folder of its own, one table, one plot."""

import dataclasses
import datetime
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mae_jax import hosts
from mae_jax.data.progress import say
from mae_jax.errors import Diverged
from mae_jax.visualize import curves

JSON, MARKDOWN, PLOT = "comparison.json", "comparison.md", "comparison.png"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One setting, measured once.

    Attributes:
      row: what tells its row of the table from the others, as JSON can hold it. Trials with the
        same row and column are draws of one measure.
      draw: which of them this is: of the labels, or of the seed.
      name: its own in the study; its work folder, if it makes one, below the study's.
      measure: what it does there; returns `accuracy`, as a share, and what else is to be kept.
      column: of the row, where a row has several measures.
    """

    row: dict[str, Any]
    draw: int
    name: str
    measure: Callable[[Path], dict[str, float]]
    column: str | None = None


def run(trials: Iterable[Trial], total: int, folder: str | Path) -> list[dict[str, Any]]:
    """Measures trials one after the other, in order.

    What each of them does in its work folder is its own business: it resumes there what was
    interrupted, so that the same study again goes on. `FOLDER/comparison.json` has all rows that
    there are, after every trial.

    Args:
      trials: may be made one by one, as the table comes into being.
      total: how many they are.

    Returns:
      The rows: what the trials say of them; then, in the row itself or in its columns, every
      draw's `accuracies`, their `mean` and `deviation` (None where there are too few), and the
      draws that `diverged`, if any did: those have no accuracy.

    Raises:
      Diverged: not one trial came to its end.
    """
    folder, began = Path(folder).absolute(), time.perf_counter()
    rows: dict[str, dict[str, Any]] = {}
    for done, trial in enumerate(trials, 1):
        row = rows.setdefault(json.dumps(trial.row), dict(trial.row))
        cell = row if trial.column is None else row.setdefault(trial.column, {})
        outcome = _measured(trial, folder, cell)
        left = (time.perf_counter() - began) / done * (total - done)
        if hosts.is_first():
            eta = f"  eta {datetime.timedelta(seconds=round(left))}" if done < total else ""
            say(f"{done} of {total}  {trial.name}  {outcome}{eta}")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / JSON).write_text(json.dumps(list(rows.values()), indent=1) + "\n")
    found = list(rows.values())
    if not any(cell["accuracies"] for row in found for cell in _cells(row)):
        raise Diverged(f"all {total} trials in {folder} diverged; the last one: {outcome}")
    return found


def _measured(trial, folder, cell) -> str:
    """Adds a trial to its cell of the table, and says what came out."""
    cell.setdefault("accuracies", [])
    try:
        found = trial.measure(folder / trial.name)
    except Diverged as error:
        cell.setdefault("diverged", []).append(trial.draw)
        outcome = f"diverged: {error}"
    else:
        cell["accuracies"].append(found["accuracy"])
        for name in found.keys() - {"accuracy"}:
            cell.setdefault(name, []).append(found[name])
        outcome = f"{found['accuracy']:.1%}"
    values = cell["accuracies"]
    cell["mean"] = statistics.mean(values) if values else None
    cell["deviation"] = statistics.stdev(values) if len(values) > 1 else None
    return outcome


def _cells(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [row] if "accuracies" in row else [c for c in row.values() if isinstance(c, dict)]


def percent(cell: dict[str, Any], width: int = 0) -> str:
    """A measure as text: mean and deviation over draws, and how many of them diverged."""
    diverged = len(cell.get("diverged", ()))
    draws = len(cell["accuracies"]) + diverged
    note = f" ({diverged} of {draws} diverged)" if diverged else ""
    if cell["mean"] is None:
        return f"{'diverged':>{width}}"
    spread = "" if cell["deviation"] is None else f" ± {100 * cell['deviation']:.1f}"
    return f"{100 * cell['mean']:{width}.1f}{spread} %{note}"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def save(folder: str | Path, table: str, plot: Callable[[Path], Path | None] | None) -> str | None:
    """Writes `comparison.md`, and `comparison.png` where there is what it takes.

    Returns:
      Where the plot lies, or how to get one; None where there is none to draw.
    """
    if not hosts.is_first():
        return None
    folder = Path(folder).absolute()
    (folder / MARKDOWN).write_text(table + "\n")
    if plot is None:
        return None
    return str(plot(folder / PLOT) or curves.HOW)

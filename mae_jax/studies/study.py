"""Many runs as one: trials, each in a folder of its own, one table, one plot."""

import contextlib
import dataclasses
import json
import os
import secrets
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mae_jax import hosts
from mae_jax.data.progress import say
from mae_jax.errors import Diverged, Preempted
from mae_jax.studies.remaining import Remaining, Work
from mae_jax.train import trackers
from mae_jax.train.stop import Stop, stop_signal
from mae_jax.visualize import curves

JSON, MARKDOWN, PLOT = "comparison.json", "comparison.md", "comparison.png"
_MEASURES = {"accuracy": "accuracies", "loss": "losses"}
_ENDED = ("diverged", "pruned", "impossible")  # before there was a measure, and why

# What a trial gave: measures and what else is to be kept, or one of `_ENDED` and why; of a trial
# with several columns such a dictionary for each.
Found = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One setting, measured once.

    Attributes:
      row: what tells its row of the table from the others, as JSON can hold it. Trials with the
        same row and column are draws of one measure.
      draw: which of them this is: of the labels, or of the seed.
      name: its own in the study; its work folder, if it makes one, below the study's.
      measure: what it does there; returns `accuracy`, as a share, or `loss`, and what else is to
        be kept.
      column: of the row, where a row has several measures.
      columns: whether it measures several columns at once, and returns a dictionary for each.
      kept: what it gave in its folder when it came to its end, or None; needed where several
        processes share the trials.
    """

    row: dict[str, Any]
    draw: int
    name: str
    measure: Callable[[Path], Found]
    column: str | None = None
    columns: bool = False
    kept: Callable[[Path], Found | None] | None = None


class Turns:
    """Who measures which trials when: this process all of them in their order, unless a subclass
    says otherwise.
    """

    def __init__(self, trials: Iterable[Trial], folder: Path):
        self._trials, self._folder = trials, folder
        self._ended: list[tuple[Trial, Found]] = []

    def take(self, stop: Stop) -> Iterator[tuple[Trial, Found, bool]]:
        """Trials as they come to their end, what each gave, and whether that was just now."""
        for trial in self._trials:
            found = measured(trial, self._folder)
            self._ended.append((trial, found))
            yield trial, found, True

    def ended(self) -> list[tuple[Trial, Found]]:
        """All that came to their end, whoever measured them, in the order of the table."""
        return self._ended

    def publishing(self) -> contextlib.AbstractContextManager[bool]:
        """Held from `ended` until the table is written; gives whether this process writes it."""
        return contextlib.nullcontext(hosts.is_first())


def run(
    trials: Iterable[Trial] | Turns,
    total: int,
    folder: str | Path,
    work: Iterable[Work] | None = None,
) -> list[dict[str, Any]]:
    """Measures trials one after the other.

    What each of them does in its work folder is its own business: it resumes there what was
    interrupted, so that the same study again goes on. `FOLDER/comparison.json` has all rows that
    there are, after every trial.

    Args:
      trials: may be made one by one, as the table comes into being; measured in order, unless
        `Turns` say otherwise.
      total: how many they are.
      work: what each has to do, in their order, to tell how long all will take; the same for all
        by default.

    Returns:
      The rows: what the trials say of them; then, in the row itself or in its columns, every
      draw's `accuracies` or `losses`, their `mean` and `deviation` (None where there are too few),
      and the draws that `diverged`, if any did: those have no measure.

    Raises:
      Diverged: not one trial came to its end.
      Preempted: SIGTERM or SIGINT came; the same study again goes on.
    """
    folder = Path(folder).absolute()
    remaining = Remaining([Work()] * total if work is None else work)
    turns = trials if isinstance(trials, Turns) else Turns(trials, folder)
    done = 0
    with stop_signal() as stop:
        for trial, found, now in turns.take(stop):
            done += 1
            remaining.ended(now)
            if now and hosts.is_first():
                said = [f"{done} of {total}", trial.name, _outcome(trial, found), remaining.words()]
                say("  ".join(filter(None, said)))
                with turns.publishing() as ours:
                    if ours:
                        write(folder / JSON, json.dumps(rows(turns.ended()), indent=1) + "\n")
            if done < total and hosts.any_of(bool(stop)):
                raise stopped(done, total, folder)
    made_rows = rows(turns.ended())
    if done == total and not any(c["mean"] is not None for row in made_rows for c in cells(row)):
        raise Diverged(
            f"all {total} trials in {folder} diverged; the last one: {_outcome(trial, found)}"
        )
    return made_rows


def stopped(done: int, total: int, folder: Path) -> Preempted:
    """What ends a study that was told to stop between trials."""
    return Preempted(
        f"stopped after {done} of {total} trials in {folder}; the same command goes on"
    )


def measured(trial: Trial, folder: Path) -> Found:
    """Measures a trial in its folder, below the study's."""
    try:
        with trackers.of_study(folder):
            return trial.measure(folder / trial.name)
    except Diverged as error:
        return {"diverged": str(error)}


def rows(ended: Iterable[tuple[Trial, Found]]) -> list[dict[str, Any]]:
    """The rows of trials that came to their end."""
    made: dict[str, dict[str, Any]] = {}
    for trial, found in ended:
        row = made.setdefault(json.dumps(trial.row), dict(trial.row))
        if trial.columns:
            for column, of_it in found.items():
                _add(row.setdefault(column, {}), trial.draw, of_it)
        else:
            cell = row if trial.column is None else row.setdefault(trial.column, {})
            _add(cell, trial.draw, found)
    return list(made.values())


def _add(cell, draw, found):
    """Adds what a trial gave to its cell of the table."""
    for reason in _ENDED:
        if reason in found:
            cell.setdefault(reason, []).append(draw)
            found = {}
    for name in found:
        cell.setdefault(_MEASURES.get(name, name), []).append(found[name])
    kind = next((kind for kind in _MEASURES.values() if kind in cell), "accuracies")
    values = cell.setdefault(kind, [])
    cell["mean"] = statistics.mean(values) if values else None
    cell["deviation"] = statistics.stdev(values) if len(values) > 1 else None


def _outcome(trial, found) -> str:
    if trial.columns:
        return "  ".join(f"{column} {_words(of_it)}" for column, of_it in found.items())
    return _words(found)


def _words(found) -> str:
    for reason in _ENDED:
        if reason in found:
            return f"{reason}: {found[reason]}"
    return f"{found['accuracy']:.1%}" if "accuracy" in found else f"{found['loss']:.4f}"


def cells(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a row: itself, or its columns."""
    return [row] if "mean" in row else [c for c in row.values() if isinstance(c, dict)]


def percent(cell: dict[str, Any], width: int = 0) -> str:
    """A measure as text: mean and deviation over draws, and how many of them diverged.

    Accuracies are percentages.
    """
    gone = {reason: len(cell.get(reason, ())) for reason in _ENDED}
    gone = {reason: count for reason, count in gone.items() if count}
    if cell["mean"] is None:
        return f"{' and '.join(gone) or 'none':>{width}}"
    loss = "losses" in cell
    scale, decimals, unit = (1, 4, "") if loss else (100, 1, " %")
    draws = len(cell["losses" if loss else "accuracies"]) + sum(gone.values())
    notes = (f"{count} of {draws} {reason}" for reason, count in gone.items())
    note = f" ({', '.join(notes)})" if gone else ""
    spread = "" if cell["deviation"] is None else f" ± {scale * cell['deviation']:.{decimals}f}"
    return f"{scale * cell['mean']:{width}.{decimals}f}{spread}{unit}{note}"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    shown = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in shown)


def save(folder: str | Path, table: str, plot: Callable[[Path], Path | None] | None) -> str | None:
    """Writes `comparison.md`, and `comparison.png` where there is what it takes.

    Returns:
      Where the plot lies, or how to get one; None where there is none to draw.
    """
    if not hosts.is_first():
        return None
    folder = Path(folder).absolute()
    write(folder / MARKDOWN, table + "\n")
    if plot is None:
        return None
    drawn = plot(folder / _fresh(PLOT))
    if drawn is None:
        return curves.HOW
    return str(drawn.replace(folder / PLOT))


def write(path: Path, text: str) -> None:
    """Puts a file in its place at once: who reads it sees the one before, or all of this one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(_fresh(path.name))
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _fresh(name: str) -> str:
    return f".{secrets.token_hex(4)}-{name}"

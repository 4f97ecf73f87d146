"""The table of a study, taken apart: what its rows set, and what was measured of them."""

import colorsys
import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import Any

from mae_jax.reports import figures, svg
from mae_jax.reports.blocks import Cell, Table
from mae_jax.reports.settings import shown
from mae_jax.studies import study

_OF_A_CELL = {"accuracies", "losses", "mean", "deviation", "diverged", "pruned"}
_ROWS = 200


@dataclasses.dataclass(frozen=True)
class Measure:
    """One column of measures.

    Attributes:
      title: of it.
      cells: of every row; nothing where it has none.
    """

    title: str
    cells: list[dict[str, Any]]

    @property
    def heading(self) -> str:
        """The title as a sentence begins."""
        return figures.heading(self.title)

    @property
    def percent(self) -> bool:
        """Whether it is a share; else it is a loss."""
        return not any("losses" in cell for cell in self.cells)

    @property
    def measured(self) -> list[int]:
        """The rows that have a mean."""
        return [at for at, cell in enumerate(self.cells) if finite(cell.get("mean"))]

    def text(self, at: int) -> str:
        """Of a row: mean and deviation, and what diverged."""
        try:
            return study.percent(self.cells[at]).strip()
        except (KeyError, TypeError, ValueError):  # of another version, or of nothing
            mean = self.cells[at].get("mean")
            return f"{mean:.4g}" if finite(mean) else "—"


class Comparison:
    """The rows of a study.

    Attributes:
      rows: as `comparison.json` has them.
      measures: the columns of measures.
      settings: the columns that tell rows apart: values by name.
      common: what is the same in all rows.
      named_by: those settings that do to tell rows apart.
      labels: what each row is called.
      colours: of each row.
    """

    def __init__(self, rows: list[dict[str, Any]]):
        self.rows, self.measures = rows, _measures(rows)
        names = dict.fromkeys(
            name
            for row in rows
            for name, value in row.items()
            if not (name in _OF_A_CELL or _is_cell(value))
            and not ("mean" in row and isinstance(value, list))
        )
        values = {name: [_plain(name, row.get(name)) for row in rows] for name in names}
        apart = {name for name, found in values.items() if len(set(map(_known_by, found))) > 1}
        self.settings = {name: found for name, found in values.items() if name in apart}
        self.common = {
            name: found[0]
            for name, found in values.items()
            if name not in apart and found[0] is not None
        }
        self.named_by = list(self.settings)
        for name, found in self.settings.items():
            if all(isinstance(v, str) for v in found) and len(set(found)) == len(found):
                self.named_by = [name]
                break
        self.labels = [self.label(at, self.named_by) for at in range(len(rows))]
        self.colours = palette(len(rows))

    def label(self, at: int, names: Sequence[str]) -> str:
        """A row by some of its settings."""
        parts = []
        for name in names:
            value, text = self.settings[name][at], _said(name, self.settings[name][at])
            if text:
                last = name.rpartition(".")[2]
                parts.append(text if isinstance(value, str) else f"{last} {text}")
        return ", ".join(parts) or f"row {at + 1}"

    def table(self, steps: Sequence[float | None], drawn: Collection[int]) -> Table:
        """All of it.

        Args:
          steps: seconds of a step of every row's runs.
          drawn: the rows that have curves below.
        """
        timed = any(seconds is not None for seconds in steps)
        rows = []
        for at in range(min(len(self.rows), _ROWS)):
            first = [_said(name, found[at]) for name, found in self.settings.items()]
            first = first or [self.labels[at]]
            first[0] = Cell(first[0], self.colours[at] if at in drawn else "")
            line = [*first, *(measure.text(at) for measure in self.measures)]
            rows.append([*line, milliseconds(steps[at])] if timed else line)
        caption = "Mean and standard deviation over draws"
        if drawn:
            caption += "; marks have the colours of the curves below"
        if len(self.rows) > _ROWS:
            caption += f"; the first {_ROWS} of {len(self.rows)} rows"
        head = [*(self.settings or ["row"]), *(measure.title for measure in self.measures)]
        return Table(caption, [*head, "ms a step"] if timed else head, rows)

    def best(self) -> list[str]:
        """A sentence for each measure: which row is best, by its mean."""
        told = []
        for measure in self.measures:
            having = measure.measured
            gone = sum(len(cell.get("diverged") or ()) for cell in measure.cells)
            text = f"{measure.heading}: nothing was measured yet"
            if having:
                best = (max if measure.percent else min)(
                    having, key=lambda at, cells=measure.cells: cells[at]["mean"]
                )
                text = f"{measure.heading}: {measure.text(best)}"
            if len(having) > 1:
                text = (
                    f"{measure.heading}: best of {len(having)} settings is {self.labels[best]}, "
                    f"with {measure.text(best)}"
                )
            lost = f" Of its draws, {gone} diverged." if gone else ""
            told.append(f"{text}.{lost}")
        return told


def palette(count: int) -> list[str]:
    """So many colours; where they are many, in the order of the rainbow."""
    if count <= len(svg.COLOURS):
        return list(svg.COLOURS[:count])
    ramp = (colorsys.hls_to_rgb(0.66 * index / (count - 1), 0.47, 0.65) for index in range(count))
    return ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in ramp]


def milliseconds(seconds: float | None) -> str:
    """A time as text."""
    return "—" if seconds is None else f"{1000 * seconds:.4g}"


def finite(value: Any) -> bool:
    """Whether it is a number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _measures(rows) -> list[Measure]:
    if any("mean" in row for row in rows):  # a row has one measure alone
        return [Measure("loss" if any("losses" in row for row in rows) else "accuracy", rows)]
    names = dict.fromkeys(name for row in rows for name, value in row.items() if _is_cell(value))
    cells = {name: [row.get(name) for row in rows] for name in names}
    return [
        Measure(
            name.replace("_", " ").replace("knn", "kNN"),
            [cell if _is_cell(cell) else {} for cell in found],
        )
        for name, found in cells.items()
    ]


def _is_cell(value) -> bool:
    return isinstance(value, dict) and "mean" in value


def _plain(name, value):
    """A value as it is told: numbers, text, True, None; anything else as text."""
    if name == "method" and isinstance(value, str):
        from mae_jax.studies import finetune  # not above: it brings all of training

        return finetune.TITLES.get(value, value)
    return value if isinstance(value, bool | int | float | str | None) else shown(value)


def _known_by(value: Any) -> str:
    """What equal values have in common, and others do not: True and 1 are not equal here."""
    return repr(value) if isinstance(value, bool) else str(value)


def _said(name: str, value: Any) -> str:
    """A setting as text; nothing where it is what the config says, which has no dots."""
    return "" if value is None and "." not in name else shown(value)

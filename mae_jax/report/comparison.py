"""The table of a study: its settings, its measures, and plots of the one over the other."""

import colorsys
import dataclasses
import math
import statistics
from collections.abc import Collection, Sequence
from typing import Any

from mae_jax.report import figures, svg
from mae_jax.report.blocks import Cell, Table
from mae_jax.report.find import Study
from mae_jax.report.read import Run
from mae_jax.report.settings import shown
from mae_jax.studies import study

_OF_A_CELL = {"accuracies", "losses", "mean", "deviation", "diverged", "pruned"}
_ROWS = 200
_DOTS = 40  # rows of one figure
# What rows of studies call other than the config does.
_KEYS = {"labels": "data.labels_per_class", "blocks": "train.trained_blocks"}


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
    def percent(self) -> bool:
        """Whether it is a share."""
        return not any("losses" in cell for cell in self.cells)


class Comparison:
    """The rows of a study, taken apart.

    Attributes:
      settings: what tells rows apart: values by name.
      common: what is the same in all rows.
      measures: the columns.
      labels: what each row is called.
      colours: of each row.
    """

    def __init__(self, study: Study):
        self.rows = study.rows
        self.measures = _measures(study.rows)
        columns = {measure.title for measure in self.measures}
        names = dict.fromkeys(
            name
            for row in study.rows
            for name, value in row.items()
            if name not in _OF_A_CELL | columns and not ("mean" in row and isinstance(value, list))
        )
        values = {name: [_plain(name, row.get(name)) for row in study.rows] for name in names}
        apart = {name for name, found in values.items() if len({_known_by(v) for v in found}) > 1}
        self.settings = {name: found for name, found in values.items() if name in apart}
        self.common = {
            name: found[0]
            for name, found in values.items()
            if name not in apart and found[0] is not None
        }
        self.labels = [self._label(at, self._naming()) for at in range(len(study.rows))]
        self.colours = palette(len(study.rows))

    def _naming(self) -> list[str]:
        """The settings that tell rows apart: one alone, if it is a name that does."""
        for name, found in self.settings.items():
            if all(isinstance(v, str) for v in found) and len(set(found)) == len(found):
                return [name]
        return list(self.settings)

    def _label(self, at: int, names: Sequence[str]) -> str:
        parts = []
        for name in names:
            value, text = self.settings[name][at], _said(name, self.settings[name][at])
            if text:
                parts.append(text if isinstance(value, str) else f"{_last(name)} {text}")
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
            line = [*first, *(_text(measure.cells[at]) for measure in self.measures)]
            rows.append([*line, _milliseconds(steps[at])] if timed else line)
        caption = "Mean and standard deviation over draws"
        if drawn:
            caption += "; marks have the colours of the curves below"
        if len(self.rows) > _ROWS:
            caption += f"; the first {_ROWS} of {len(self.rows)} rows"
        head = [*(self.settings or ["row"]), *(measure.title for measure in self.measures)]
        return Table(caption, [*head, "ms a step"] if timed else head, rows)

    def plots(self, group: str) -> list[figures.Figure]:
        """Every measure over the settings: means, deviations, and single draws."""
        return [
            self._plot(f"{group}{index}", measure)
            for index, measure in enumerate(self.measures)
            if any(_finite(cell.get("mean")) for cell in measure.cells)
        ]

    def _plot(self, name, measure) -> figures.Figure:
        words = "; ".join(
            f"{label}: {_text(cell)}"
            for label, cell in list(zip(self.labels, measure.cells, strict=True))[:_DOTS]
        )
        caption = "Marks are means, bars one standard deviation over draws."
        over = self._axis()
        if over is None:
            return self._dots(name, measure, caption, words)
        values = self.settings[over]
        others = [key for key in self.settings if key != over]
        numbers = all(_is_number(value) for value in values)
        places = list(dict.fromkeys(sorted(values, key=_order)))
        groups: dict[str, list[int]] = {}
        for at in range(len(values)):
            groups.setdefault(self._label(at, others) if others else "", []).append(at)
        lines = []
        for index, (label, rows) in enumerate(groups.items()):
            points = [
                (values[at] if numbers else places.index(values[at]), measure.cells[at])
                for at in sorted(rows, key=lambda at: _order(values[at]))
                if _finite(measure.cells[at].get("mean"))
            ]
            if points:
                lines.append(_marks(label, points, palette(len(groups))[index], dash=index))
        positive = [value for value in values if _is_number(value) and value > 0]
        return figures.lines(
            name,
            measure.title,
            lines,
            x=over,
            y="" if measure.percent else "loss",
            percent=measure.percent,
            caption=caption,
            words=words,
            ticks=() if numbers else [(at, shown(value)) for at, value in enumerate(places)],
            log_x=numbers and len(positive) == len(values) and max(values) >= 20 * min(values),
        )

    def _dots(self, name, measure, caption, words):
        points = [
            (at, cell) for at, cell in enumerate(measure.cells[:_DOTS]) if _finite(cell.get("mean"))
        ]
        if len(measure.cells) > _DOTS:
            caption += f" The first {_DOTS} of {len(measure.cells)} rows."
        return figures.dots(
            name,
            measure.title,
            self.labels[:_DOTS],
            [_marks("", points, svg.COLOURS[0])],
            x="" if measure.percent else "loss",
            percent=measure.percent,
            caption=caption,
            words=words,
        )

    def _axis(self) -> str | None:
        """The setting that a plot has along x; None where rows are better told by their names."""
        if len(self._naming()) == 1 and len(self.settings) > 1:
            return None
        best, most = None, 1
        for name, found in self.settings.items():
            distinct = {v for v in found if _is_number(v)}
            rest = [v for v in found if not _is_number(v)]
            if len(distinct) > most and all(value in ("all", None) for value in rest):
                best, most = name, len(distinct)
        others = len({self._label(at, [k for k in self.settings if k != best])
                      for at in range(len(self.rows))})  # fmt: skip
        return best if others <= 8 else None

    def beside_time(self, steps: Sequence[float | None], group: str) -> list[figures.Figure]:
        """Every measure beside what a step takes, a mark for each row that has both."""
        made = []
        for measure in self.measures:
            shown_rows = [
                at
                for at, cell in enumerate(measure.cells)
                if steps[at] is not None and _finite(cell.get("mean"))
            ]
            if len(shown_rows) < 2:
                continue
            lines = [
                dataclasses.replace(
                    _marks(self.labels[at], [(1000 * steps[at], measure.cells[at])],
                           self.colours[at]),
                    joined=False,
                )
                for at in shown_rows
            ]  # fmt: skip
            words = "; ".join(
                f"{self.labels[at]}: {_text(measure.cells[at])} at {1000 * steps[at]:.4g} ms"
                for at in shown_rows[:_DOTS]
            )
            made.append(
                figures.lines(
                    f"{group}{len(made)}",
                    f"{measure.title} beside step time",
                    lines,
                    x="milliseconds a step",
                    y="" if measure.percent else "loss",
                    percent=measure.percent,
                    words=words,
                    caption="Colours are those of the table.",
                )
            )
        return made

    def rows_of(self, runs: Sequence[Run]) -> dict[str, int]:
        """The row that each run belongs to, by the run's name; those that none fits are left out.

        What follows a pre-training in the same folder belongs to the row of that.
        """
        leading = [r for r in runs if r.config.get("train.objective") == "reconstruct"] or runs
        found, beside = {}, {}
        for run in leading:
            at = next((i for i in range(len(self.rows)) if _fits(self.rows[i], run.config)), None)
            if at is not None:
                found[run.name] = beside[run.folder.parent] = at
        for run in runs:
            if run not in leading and run.folder.parent in beside:
                found[run.name] = beside[run.folder.parent]
        return found

    def best(self) -> list[str]:
        """A sentence for each measure: which row is best, by its mean."""
        told = []
        for measure in self.measures:
            having = [
                (cell["mean"], at)
                for at, cell in enumerate(measure.cells)
                if _finite(cell.get("mean"))
            ]
            gone = sum(len(cell.get("diverged") or ()) for cell in measure.cells)
            lost = f" Of its draws, {gone} diverged." if gone else ""
            if not having:
                told.append(f"{measure.title}: nothing was measured yet.{lost}")
                continue
            _, at = (max if measure.percent else min)(having, key=lambda pair: pair[0])
            text = f"{measure.title}: {_text(measure.cells[at])}"
            if len(having) > 1:
                text = (
                    f"{measure.title}: best of {len(having)} settings is {self.labels[at]}, "
                    f"with {_text(measure.cells[at])}"
                )
            told.append(f"{text[0].upper()}{text[1:]}.{lost}")
        return told


def step_seconds(runs: Sequence[Run], rows: dict[str, int], count: int) -> list[float | None]:
    """The median time of a step of every row's runs; of those that pre-train, where some do."""
    found: list[list[float]] = [[] for _ in range(count)]
    leading = [r for r in runs if r.config.get("train.objective") == "reconstruct"] or runs
    for run in leading:
        if run.name in rows and run.step_seconds is not None:
            found[rows[run.name]].append(run.step_seconds)
    return [statistics.median(times) if times else None for times in found]


def palette(count: int) -> list[str]:
    """So many colours; where they are many, in the order of the rainbow."""
    if count <= len(svg.COLOURS):
        return list(svg.COLOURS[:count])
    ramp = (colorsys.hls_to_rgb(0.66 * index / (count - 1), 0.47, 0.65) for index in range(count))
    return ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in ramp]


def _known_by(value: Any) -> str:
    """What equal values have in common, and others do not: True and 1 are not equal here."""
    return repr(value) if isinstance(value, bool) else str(value)


def _said(name: str, value: Any) -> str:
    """A setting as text; nothing where it is what the config says, which has no dots."""
    return "" if value is None and "." not in name else shown(value)


def _measures(rows) -> list[Measure]:
    if any("mean" in row for row in rows):
        loss = any("losses" in row for row in rows)
        return [Measure("loss" if loss else "accuracy", rows)]
    names = dict.fromkeys(
        name
        for row in rows
        for name, value in row.items()
        if isinstance(value, dict) and "mean" in value
    )
    cells = {name: [row.get(name) for row in rows] for name in names}
    return [
        Measure(name, [cell if isinstance(cell, dict) else {} for cell in found])
        for name, found in cells.items()
    ]


def _marks(label, points, colour, dash=0) -> figures.Line:
    spread = [cell["deviation"] if _finite(cell.get("deviation")) else 0 for _, cell in points]
    return figures.Line(
        label,
        [(at, cell["mean"]) for at, cell in points],
        colour,
        [cell["mean"] - by for (_, cell), by in zip(points, spread, strict=True)],
        [cell["mean"] + by for (_, cell), by in zip(points, spread, strict=True)],
        marked=True,
        dash=dash,
    )


def _text(cell: dict[str, Any]) -> str:
    try:
        return study.percent(cell).strip()
    except (KeyError, TypeError, ValueError):  # of another version, or of nothing
        mean = cell.get("mean")
        return f"{mean:.4g}" if _finite(mean) else "—"


def _milliseconds(seconds: float | None) -> str:
    return "—" if seconds is None else f"{1000 * seconds:.4g}"


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
        elif (None if value == "all" else value) != config[key]:
            return False
        said += 1
    return said > 0


def _plain(name, value):
    """A value as it is told: numbers, text, True, None; anything else as text."""
    if name == "method" and isinstance(value, str):
        from mae_jax.studies import finetune  # not above: it brings all of training

        return finetune.TITLES.get(value, value)
    return value if isinstance(value, bool | int | float | str | None) else shown(value)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _finite(value)


def _finite(value) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _order(value):
    return (0, value, "") if _is_number(value) else (1, 0, str(value))

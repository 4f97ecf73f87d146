"""Plots of a study: every measure over its settings, and beside what a step takes."""

from collections.abc import Sequence

from mae_jax.reports import figures, svg
from mae_jax.reports.comparison import Comparison, Measure, finite, milliseconds, palette
from mae_jax.reports.figures import Figure, Line
from mae_jax.reports.settings import shown

_DOTS = 40  # rows of one figure
_LINES = 8
_BARS = "Marks are means, bars one standard deviation over draws."


def over_settings(comparison: Comparison, group: str) -> list[Figure]:
    """Every measure with its mean and deviation: over a setting of numbers, or beside names.

    Of a search every measure over every setting, a mark for each trial.

    Args:
      group: what the figures' names on the page begin with.
    """
    if "trial" in comparison.settings:
        return _searched(comparison, group)
    over, made = _axis(comparison), []
    for index, measure in enumerate(comparison.measures):
        if measure.measured:
            draw = _dots if over is None else _lines
            made.append(draw(comparison, measure, f"{group}{index}", over))
    return made


def _searched(comparison, group) -> list[Figure]:
    made = []
    for measure in comparison.measures:
        for name, values in comparison.settings.items():
            if name == "trial" or not measure.measured:
                continue
            numbers = all(map(finite, values))
            places = sorted(dict.fromkeys(values), key=_order)
            dots = [
                _marks(
                    measure,
                    [(values[at] if numbers else places.index(values[at]), at)],
                    "",
                    comparison.colours[at],
                )
                for at in measure.measured
            ]
            made.append(
                figures.lines(
                    f"{group}{len(made)}",
                    f"{measure.heading} over {name}",
                    dots,
                    x=name,
                    y="" if measure.percent else "loss",
                    percent=measure.percent,
                    ticks=() if numbers else [(i, shown(value)) for i, value in enumerate(places)],
                    log_x=numbers and 0 < 20 * min(values) <= max(values),
                    caption="A mark is a trial.",
                    words=_words(comparison, measure),
                )
            )
    return made


def beside_time(comparison: Comparison, steps: Sequence[float | None], group: str) -> list[Figure]:
    """Every measure over what a step takes, a mark for each row that has both.

    Args:
      steps: seconds, of every row.
    """
    made = []
    for measure in comparison.measures:
        having = [at for at in measure.measured if steps[at] is not None]
        if len(having) < 2:
            continue
        shown_rows = [
            _marks(measure, [(1000 * steps[at], at)], "", comparison.colours[at]) for at in having
        ]
        words = "; ".join(
            f"{comparison.labels[at]}: {measure.text(at)} at {milliseconds(steps[at])} ms"
            for at in having[:_DOTS]
        )
        made.append(
            figures.lines(
                f"{group}{len(made)}",
                f"{measure.heading} beside step time",
                shown_rows,
                x="milliseconds a step",
                y="" if measure.percent else "loss",
                percent=measure.percent,
                words=words,
            )
        )
    return made


def _axis(comparison) -> str | None:
    """The setting that goes along x; None where rows are better told by their names."""
    if len(comparison.named_by) < len(comparison.settings):
        return None
    best, most = None, 1
    for name, found in comparison.settings.items():
        numbers = set(filter(finite, found))
        rest = [value for value in found if not finite(value)]
        if len(numbers) > most and all(value in ("all", None) for value in rest):
            best, most = name, len(numbers)
    return best if best and len(_groups(comparison, best)) <= _LINES else None


def _groups(comparison, over) -> dict[str, list[int]]:
    """The rows of each line, by what it is called."""
    others = [name for name in comparison.settings if name != over]
    groups: dict[str, list[int]] = {}
    for at in range(len(comparison.rows)):
        groups.setdefault(comparison.label(at, others) if others else "", []).append(at)
    return groups


def _lines(comparison, measure, name, over) -> Figure:
    values = comparison.settings[over]
    numbers = all(map(finite, values))
    places = sorted(dict.fromkeys(values), key=_order)
    groups = _groups(comparison, over)
    made = []
    for index, (label, rows) in enumerate(groups.items()):
        points = [
            (values[at] if numbers else places.index(values[at]), at)
            for at in sorted(rows, key=lambda at: _order(values[at]))
            if at in measure.measured
        ]
        if points:
            made.append(_marks(measure, points, label, palette(len(groups))[index], index))
    return figures.lines(
        name,
        measure.heading,
        made,
        x=over,
        y="" if measure.percent else "loss",
        percent=measure.percent,
        ticks=() if numbers else [(at, shown(value)) for at, value in enumerate(places)],
        log_x=numbers and 0 < 20 * min(values) <= max(values),
        caption=_BARS,
        words=_words(comparison, measure),
    )


def _dots(comparison, measure, name, over) -> Figure:
    caption = _BARS
    if len(comparison.rows) > _DOTS:
        caption += f" The first {_DOTS} of {len(comparison.rows)} rows."
    points = [(at, at) for at in measure.measured if at < _DOTS]
    return figures.dots(
        name,
        measure.heading,
        comparison.labels[:_DOTS],
        _marks(measure, points, "", svg.COLOURS[0]),
        x="" if measure.percent else "loss",
        percent=measure.percent,
        caption=caption,
        words=_words(comparison, measure),
    )


def _words(comparison, measure) -> str:
    labels = comparison.labels[:_DOTS]
    return "; ".join(f"{label}: {measure.text(at)}" for at, label in enumerate(labels))


def _marks(measure: Measure, points, label, colour, dash=0) -> Line:
    """Of places and rows."""
    cells = [(place, measure.cells[at]) for place, at in points]
    spread = [cell["deviation"] if finite(cell.get("deviation")) else 0 for _, cell in cells]
    return Line(
        label,
        [(place, cell["mean"]) for place, cell in cells],
        colour,
        [cell["mean"] - by for (_, cell), by in zip(cells, spread, strict=True)],
        [cell["mean"] + by for (_, cell), by in zip(cells, spread, strict=True)],
        marked=True,
        dash=dash,
    )


def _order(value):
    return (0, value, "") if finite(value) else (1, 0, str(value))

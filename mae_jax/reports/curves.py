"""Curves of one run, and of many runs together."""

import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence, Set

import numpy as np

from mae_jax.reports import figures, svg
from mae_jax.reports.read import Run, Series

_POINTS = 400  # of a line, at most
_FIGURES = 16


@dataclasses.dataclass(frozen=True)
class _Kind:
    """Numbers that belong into one figure, with what they are called in its legend."""

    title: str
    names: dict[str, str]
    percent: bool = False
    log: bool = True  # where values are far apart


_KINDS = (
    _Kind(
        "Loss",
        {
            "loss": "training",
            "eval_loss": "held out",
            "eval_ema_loss": "held out, moving average",
            "eval_train_loss": "training images, seen and hidden as held-out ones are",
        },
    ),
    _Kind(
        "Accuracy on held-out images",
        {
            "eval_accuracy": "classifier",
            "eval_ema_accuracy": "classifier, moving average",
            "eval_top5": "among its first five",
            "eval_ema_top5": "the same, moving average",
            "eval_knn_accuracy": "kNN on the frozen encoder",
        },
        percent=True,
    ),
    _Kind("Effective rank of features", {"eval_rank": ""}, log=False),
    _Kind("Learning rate", {"lr": ""}, log=False),
    _Kind("Gradient norm", {"grad_norm": ""}),
    _Kind("Images a second", {"images_per_second": ""}, log=False),
    _Kind("Share of the time waited for data", {"data_wait_share": ""}, percent=True),
)
_KNOWN = {name: kind for kind in _KINDS for name in kind.names}
_TITLES = {
    "loss": "training loss",
    "eval_loss": "held-out loss",
    "eval_ema_loss": "held-out loss of the moving average",
    "eval_train_loss": "loss on training images, seen and hidden as held-out ones are",
    "eval_rank": "effective rank of features",
    "eval_accuracy": "held-out accuracy",
    "eval_ema_accuracy": "held-out accuracy of the moving average",
    "eval_top5": "held-out accuracy among the first five",
    "eval_ema_top5": "held-out accuracy among the first five of the moving average",
    "eval_knn_accuracy": "kNN accuracy",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "data_wait_share": "waited for data",
}


def title(name: str) -> str:
    """What a number of `metrics.jsonl` is called, by itself."""
    return _TITLES.get(name, name.replace("_", " "))


def is_share(name: str) -> bool:
    """Whether it is shown in percent."""
    return name in _KNOWN and _KNOWN[name].percent


def of_run(run: Run) -> list[figures.Figure]:
    """A figure for each kind of number that a run has recorded."""
    made = []
    for kind in _kinds(run.series.keys()):
        names = [name for name in kind.names if name in run.series]
        shown, notes = [], []
        for dash, name in enumerate(names):
            line, note = _line(run.series[name], kind.names[name] if len(names) > 1 else "", dash)
            shown.append(line)
            notes += note
        words = "; ".join(
            f"{kind.names[name] or kind.title}: {spoken(run.series[name])}" for name in names
        )
        made.append(
            figures.lines(
                f"curve{len(made)}",
                kind.title,
                shown,
                x="step",
                percent=kind.percent,
                log_y=kind.log,
                caption=" ".join(dict.fromkeys(notes)),
                words=words,
            )
        )
    return made[:_FIGURES]


def of_runs(runs: Sequence[Run], colours: dict[str, str], group: str) -> list[figures.Figure]:
    """A figure for each number that runs have recorded, with a line for every run.

    Args:
      colours: of the runs, by their names.
      group: what the figures' names on the page begin with.
    """
    made: list[figures.Figure] = []
    most = max(50, _POINTS // max(1, len(runs)))
    for kind in _kinds({name for run in runs for name in run.series}):
        for name in kind.names:
            having = [run for run in runs if len(run.series.get(name, ())) > 1]
            if not having:
                continue
            shown = []
            for run in having:
                line, _ = _line(run.series[name], "", 0, most)
                shown.append(dataclasses.replace(line, colour=colours[run.name], low=(), high=()))
            words = "; ".join(f"{run.name}: {spoken(run.series[name])}" for run in having[:20])
            made.append(
                figures.lines(
                    f"{group}{len(made)}",
                    figures.heading(title(name)),
                    shown,
                    x="step",
                    percent=kind.percent,
                    log_y=kind.log,
                    words=words,
                )
            )
    return made[:_FIGURES]


def spoken(points: Sequence[tuple[int, float]]) -> str:
    """A curve in words: where it begins and ends."""
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    if not finite:
        return "no finite value"
    (first, begin), (last, end) = finite[0], finite[-1]
    if first == last:
        return f"{end:.4g} at step {last}"
    return f"from {begin:.4g} at step {first} to {end:.4g} at step {last}"


def _kinds(series: Set[str]) -> Iterator[_Kind]:
    for kind in _KINDS:
        if any(name in series for name in kind.names):
            yield kind
    for name in sorted(series - _KNOWN.keys()):
        yield _Kind(figures.heading(title(name)), {name: ""})


def _line(
    points: Series, label: str, dash: int, most: int = _POINTS
) -> tuple[figures.Line, list[str]]:
    """A line of a run's numbers, and what is to be said of it."""
    notes = []
    lost = sum(not math.isfinite(value) for _, value in points)
    if lost:
        notes.append(f"{lost} of {len(points)} values were not finite; the line has gaps there.")
    thin, low, high = _thinned(points, most)
    if low:
        notes.append(
            f"Every point is the mean of about {math.ceil(len(points) / most)} records; the band "
            "goes from the least to the greatest of them."
        )
    line = figures.Line(
        label, thin, svg.COLOURS[dash % len(svg.COLOURS)], low, high, len(thin) <= 30, dash=dash
    )
    return dataclasses.replace(line, marked=line.marked and not low), notes


def _thinned(points, most):
    """At most so many points: means of neighbours, with the least and the greatest of them."""
    if len(points) <= most:
        return points, (), ()
    thin, low, high = [], [], []
    for part in np.array_split(np.arange(len(points)), most):
        some = [points[index] for index in part]
        values = [value for _, value in some if math.isfinite(value)] or [math.nan]
        thin.append((statistics.mean(step for step, _ in some), statistics.mean(values)))
        low.append(min(values))
        high.append(max(values))
    return thin, low, high

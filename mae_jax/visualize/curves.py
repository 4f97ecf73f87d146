"""Accuracies of a comparison as a plot, where matplotlib is installed."""

import importlib.util
from pathlib import Path
from typing import Any

# Colours that stay apart for colour-blind eyes (Okabe and Ito 2008).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKS = "os^Dv"  # of a line whose colour another has
HOW = "pip install 'mae_jax[plots]' for a plot"


def available() -> bool:
    """Whether there is what it takes."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(rows: list[dict[str, Any]], path: Path) -> Path | None:
    """A line per method over labels per class, trained blocks or layers; None without matplotlib.

    Args:
      rows: each with `method`, `mean` and `deviation`, and with `labels`, `blocks` or `layer`;
        those without a mean are left out.
    """
    kinds = [name for name in ("layer", "blocks") if all(row.get(name) is not None for row in rows)]
    over = kinds[0] if kinds else "labels"
    methods = dict.fromkeys(row["method"] for row in rows)
    ticks = list(dict.fromkeys(str(row[over]) for row in rows))
    series = {
        method: [
            (ticks.index(str(row[over])), row)
            for row in rows
            if row["method"] == method and row["mean"] is not None
        ]
        for method in methods
    }
    title = {"labels": "labels per class", "blocks": "trained blocks", "layer": "layer"}[over]

    def lines(axes):
        for number, (method, points) in enumerate(series.items()):
            axes.errorbar(
                [x for x, _ in points],
                [100 * row["mean"] for _, row in points],
                yerr=[100 * (row["deviation"] or 0) for _, row in points],
                label=method, capsize=3, color=_COLOURS[number % len(_COLOURS)],
                marker=_MARKS[number // len(_COLOURS) % len(_MARKS)],
            )  # fmt: skip
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlabel(title)

    return _save(lines, path)


def over(rows: list[dict[str, Any]], path: Path) -> Path | None:
    """A plot per measure over the setting with the most values, a line for each of the others.

    Of a search, whose rows have a `trial`, a plot per measure and setting, with a dot a trial.

    Args:
      rows: settings, and cells with `mean`, `deviation`, and `accuracies` or `losses`.

    Returns:
      The path; None without matplotlib, or where nothing varies.
    """
    cells = dict.fromkeys(n for row in rows for n, value in row.items() if isinstance(value, dict))
    keys = [name for name in (rows[0] if rows else ()) if name not in cells]
    if not keys or not cells or not available():
        return None
    from matplotlib.figure import Figure

    if "trial" in keys:
        return _searched(rows, [key for key in keys if key != "trial"], list(cells), path)
    ticks = {key: list(dict.fromkeys(str(row[key]) for row in rows)) for key in keys}
    axis = max(keys, key=lambda key: len(ticks[key]))
    numbers = all(type(row[axis]) in (int, float) for row in rows)
    figure = Figure(figsize=(1 + 4 * len(cells), 4), layout="constrained", dpi=150)
    for axes, cell in zip(figure.subplots(1, len(cells), squeeze=False)[0], cells, strict=True):
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            others = (f"{k.rpartition('.')[2]}={row[k]}" for k in keys if k != axis)
            if row.get(cell, {}).get("mean") is not None:
                lines.setdefault(", ".join(others), []).append(row)
        scale = 1 if any("losses" in row.get(cell, ()) for row in rows) else 100
        for index, (label, points) in enumerate(lines.items()):
            axes.errorbar(
                [row[axis] if numbers else ticks[axis].index(str(row[axis])) for row in points],
                [scale * row[cell]["mean"] for row in points],
                yerr=[scale * (row[cell]["deviation"] or 0) for row in points],
                label=label, color=_COLOURS[index % len(_COLOURS)], marker="o", capsize=3,
            )  # fmt: skip
        if not numbers:
            axes.set_xticks(range(len(ticks[axis])), ticks[axis])
        axes.set_xlabel(axis)
        axes.set_ylabel(cell if scale == 1 else f"{cell}, %")
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.savefig(path)
    return path


def _searched(rows, keys, cells, path):
    from matplotlib.figure import Figure

    size = (1 + 3.5 * len(keys), 3.2 * len(cells))
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    for line, cell in zip(
        figure.subplots(len(cells), len(keys), squeeze=False, sharey="row"), cells, strict=True
    ):
        found = [row for row in rows if row.get(cell, {}).get("mean") is not None]
        loss = any("losses" in row[cell] for row in found)
        heights = [(1 if loss else 100) * row[cell]["mean"] for row in found]
        line[0].set_ylabel(cell if loss else f"{cell}, %")
        for axes, key in zip(line, keys, strict=True):
            values = [row[key] for row in found]
            numbers = all(type(value) in (int, float) for value in values)
            ticks = list(dict.fromkeys(map(str, values)))
            places = values if numbers else [ticks.index(str(value)) for value in values]
            # The later a trial, the darker: where the search went.
            order = [row["trial"] for row in found]
            axes.scatter(places, heights, c=order, cmap="Blues", vmin=-1 - max(order, default=0))
            if not numbers:
                axes.set_xticks(range(len(ticks)), ticks)
            elif values and 0 < 20 * min(values) <= max(values):
                axes.set_xscale("log")
            axes.set_xlabel(key)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
    figure.savefig(path)
    return path


def bars(names: list[str], values: dict[str, list[float | None]], path: Path) -> Path | None:
    """A group of bars per name, one for each kind of value (shares); None without matplotlib.

    Where a value is None, there is no bar.
    """

    def groups(axes):
        width = 0.8 / len(values)
        for index, (kind, shares) in enumerate(values.items()):
            places = [i + (index - (len(values) - 1) / 2) * width for i in range(len(names))]
            heights = [100 * (share or 0) for share in shares]
            drawn = axes.bar(
                places, heights, width, label=kind, color=_COLOURS[index % len(_COLOURS)]
            )
            labels = ["" if share is None else f"{100 * share:.1f}" for share in shares]
            axes.bar_label(drawn, labels, fontsize=8)
        axes.set_xticks(range(len(names)), names, rotation=15, ha="right")

    return _save(groups, path)


def _save(content, path):
    if not available():
        return None
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(figsize=(6.4, 4), layout="constrained", dpi=150)
    axes = figure.subplots()
    content(axes)
    axes.set_ylabel("accuracy on held-out images, %")
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path)
    return path

"""Figures of a page: lines over steps or settings, and dots beside names."""

import dataclasses
import io
import math
import warnings
from collections.abc import Callable, Sequence

from markupsafe import Markup

from mae_jax.errors import printable
from mae_jax.reports import svg

# Inches: about as wide as a telephone, where a figure fills the page; elsewhere several stand in
# a row. Letters are of one size everywhere.
_WIDTH, _HEIGHT = 4.4, 2.75
_LONGEST = 44  # characters of a label
_BESIDE = ((4, 5), (20, 2))  # characters of labels, and how many stand beside each other
_STYLES = ("-", "--", "-.", ":")
_RC = {
    "svg.fonttype": "none",  # text, in the letters of the page
    "svg.hashsalt": "mae_jax",  # the same names for the same figure
    "text.parse_math": False,  # a name with $ in it is a name
    "font.size": 9,
    "text.color": svg.TEXT,
    "axes.labelcolor": svg.TEXT,
    "axes.edgecolor": svg.TEXT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": svg.GRID,
    "grid.linewidth": 0.6,
    "xtick.color": svg.TEXT,
    "ytick.color": svg.TEXT,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "path.simplify": False,
}


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure of the page.

    Attributes:
      title: above it.
      markup: the figure.
      caption: below it.
    """

    title: str
    markup: Markup
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a figure, or one dot.

    Attributes:
      label: in the legend; nothing for none.
      points: x and y in their order; where y is NaN the line is broken.
      colour: of `svg.COLOURS`, or any other.
      low, high: around every point, as a band or, where `marked`, as bars; nothing for none.
      marked: a mark at every point.
      joined: a line between the points.
      dash: of the line, by a number.
    """

    label: str
    points: Sequence[tuple[float, float]]
    colour: str = svg.COLOURS[0]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    marked: bool = False
    joined: bool = True
    dash: int = 0


def lines(
    name: str,
    title: str,
    shown: Sequence[Line],
    *,
    x: str,
    y: str = "",
    percent: bool = False,
    ticks: Sequence[tuple[float, str]] = (),
    log_x: bool = False,
    log_y: bool = True,
    caption: str = "",
    words: str = "",
) -> Figure:
    """Lines over a common axis.

    Args:
      name: the figure's own on the page.
      x, y: titles of the axes.
      percent: whether values are shares.
      ticks: places and names along x, where that is no axis of numbers.
      log_x: a logarithmic axis.
      log_y: the same, where values are far apart, and no shares.
      words: what the figure shows, for those who do not see it.
    """
    values = [v for line in shown for _, v in line.points if math.isfinite(v)]
    log_y &= not percent and bool(values) and 0 < 20 * min(values) < max(values)

    def draw(axes):
        if log_x:
            axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        for line in shown:
            _draw(axes, line, 100 if percent else 1)
        if ticks:
            axes.set_xticks([at for at, _ in ticks], [_short(tick) for _, tick in ticks])
            axes.set_xmargin(0.1)
            if max(len(tick) for _, tick in ticks) * len(ticks) > 50:
                axes.tick_params("x", rotation=30)
        else:
            _numbers(axes.xaxis)
        _numbers(axes.yaxis)
        axes.set_xlabel(_short(x))
        axes.set_ylabel(_short(f"{y}, %".lstrip(", ") if percent else y))
        if labels:
            axes.figure.legend(loc="outside lower center", ncols=columns)

    labels = [line.label for line in shown if line.label]
    longest = max(map(len, labels), default=0)
    columns = next((count for most, count in _BESIDE if longest <= most), 1)
    height = _HEIGHT + 0.17 * (-(-len(labels) // columns) - 1 if labels else 0)
    return Figure(title, _markup(draw, name, f"{title}. {words}".strip(), height), caption)


def dots(
    name: str,
    title: str,
    names: Sequence[str],
    shown: Line,
    *,
    x: str,
    percent: bool = False,
    caption: str = "",
    words: str = "",
) -> Figure:
    """A row for each name, with marks and bars: points are (number of the row, value)."""
    scale = 100 if percent else 1

    def draw(axes):
        values = [scale * value for _, value in shown.points]
        axes.errorbar(
            values, [at for at, _ in shown.points], xerr=_bars(shown, scale), fmt="o",
            color=shown.colour, capsize=2.5, markersize=4, elinewidth=1,
        )  # fmt: skip
        axes.set_yticks(range(len(names)), [_short(label) for label in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        _numbers(axes.xaxis)
        axes.set_xlabel("%" if percent else x)

    height = max(_HEIGHT / 2, 0.8 + 0.24 * len(names))
    return Figure(title, _markup(draw, name, f"{title}. {words}".strip(), height), caption)


def heading(text: str) -> str:
    """As a title begins, unless it is written in a way of its own, as kNN."""
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]


def _bars(line, scale):
    """How far bars go below and above."""
    pairs = list(zip(line.points, line.low, line.high, strict=True))
    return [scale * (v - low) for (_, v), low, _ in pairs], [
        scale * (high - v) for (_, v), _, high in pairs
    ]


def _draw(axes, line, scale):
    places = [at for at, _ in line.points]
    values = [scale * value for _, value in line.points]
    label = _short(line.label) or None
    style = _STYLES[line.dash % len(_STYLES)] if line.joined else "none"
    if line.low and line.marked:
        axes.errorbar(
            places, values, yerr=_bars(line, scale), label=label, color=line.colour, marker="o",
            markersize=4, capsize=2.5, linestyle=style, linewidth=1.3, elinewidth=1,
        )  # fmt: skip
        return
    if line.low:
        low, high = [scale * v for v in line.low], [scale * v for v in line.high]
        axes.fill_between(places, low, high, color=line.colour, alpha=0.2, linewidth=0)
    axes.plot(
        places, values, label=label, color=line.colour, linestyle=style, linewidth=1.3,
        marker="o" if line.marked else None, markersize=3,
    )  # fmt: skip


def _numbers(axis) -> None:
    """Ticks as short numbers, on logarithmic axes too."""
    from matplotlib import ticker

    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: _number(value)))
    if axis.get_scale() != "log":
        axis.set_major_locator(ticker.MaxNLocator(6))
        return
    low, high = axis.get_view_interval()
    few = math.log10(high / low) < 1.5
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if few else (1,), numticks=8))
    axis.set_minor_formatter(ticker.NullFormatter())


def _number(value: float) -> str:
    if abs(value) >= 1e4:
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= size:
                return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _markup(draw: Callable, name: str, label: str, height: float = _HEIGHT) -> Markup:
    import matplotlib
    from matplotlib.figure import Figure as Drawing  # without pyplot: no window, no global state

    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font to measure with does not have
        drawing = Drawing(figsize=(_WIDTH, height), layout="constrained", facecolor="none")
        axes = drawing.subplots()
        axes.set_facecolor("none")
        draw(axes)
        text = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(text, format="svg", metadata=nothing)
    return svg.inline(text.getvalue(), name, printable(label))

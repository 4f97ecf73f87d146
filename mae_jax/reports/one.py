"""The page of one run."""

from collections.abc import Sequence

from mae_jax.config import PRETRAINING
from mae_jax.reports import curves, learning, pictures, settings, words
from mae_jax.reports.blocks import Cell, Figures, Pictures, Section, Table, Text
from mae_jax.reports.read import Run

_MEASURED = 40  # rows of measures, at most
_CLASSES = 20  # that are named
_PLAN = (
    ("topology", "topology", None),
    ("devices", "devices", None),
    ("device", "device_kind", None),
    ("changes", "changes", None),
    ("fits", "fits", None),
    ("GB a device", "memory_gb", "{:.1f}"),
    ("GB usable", "usable_gb", "{:.1f}"),
    ("ms a step", "step_seconds", "{:.1f}"),
    ("share of peak", "peak_share", "{:.0%}"),
    ("hours", "hours", "{:.1f}"),
)


def sections(run: Run) -> list[Section]:
    """All that there is to tell of it."""
    notes = list(run.notes)
    made = [
        Section("curves", "Curves", _curves(run)),
        Section("learning", "Is it learning?", learning.of_run(run, notes)),
        Section("panels", "Reconstructions", _panels(run, notes)),
        Section("features", "Features", _features(run, notes)),
        Section("configuration", "Configuration", settings.of_run(run) if run.config else []),
        Section("changes", "Changes on the way", _only(settings.history([run]))),
        Section("versions", "Versions and hardware", settings.versions([run])),
        Section("plan", "Plan", _plan(run)),
    ]
    found = [section for section in made if section.blocks]
    return [*found, Section("folder", "The work folder", _folder(run, notes))]


def measures(run: Run) -> Table | None:
    """The first and the last of every number."""
    rows = []
    for name, points in run.series.items():
        (first, begin), (last, end) = points[0], points[-1]
        rows.append(
            [
                curves.title(name),
                Cell(words.number(begin, name), exact=begin),
                str(first),
                Cell(words.number(end, name), exact=end),
                str(last),
            ]
        )
    head = ("measure", "first", "at step", "last", "at step")
    return Table("The first and the last of every number", head, rows) if rows else None


def _curves(run):
    figures = curves.of_run(run)
    if not figures:
        return [Text(["No number was recorded yet, so that there is no curve."])]
    return [Figures(figures), *_only(measures(run)), *_only(_held_out(run))]


def _held_out(run) -> Table | None:
    names = [name for name in run.series if name.startswith("eval_")]
    steps = sorted({step for name in names for step, _ in run.series[name]})
    if len(steps) < 2:
        return None
    caption = "Measures on held-out images"
    if len(steps) > _MEASURED:
        caption += f", {_MEASURED} of {len(steps)} times"
        steps = [steps[round(i * (len(steps) - 1) / (_MEASURED - 1))] for i in range(_MEASURED)]
    found = {name: dict(run.series[name]) for name in names}
    rows = [
        [str(step), *(_cell(of_it.get(step), name) for name, of_it in found.items())]
        for step in steps
    ]
    return Table(caption, ("step", *map(curves.title, names)), rows, folded=True)


def _cell(value, name):
    return "—" if value is None else Cell(words.number(value, name), exact=value)


def _panels(run, notes):
    paths = [(f"step {step}", path) for step, path in run.panels]
    shown = pictures.some(paths, notes)
    if not shown:
        return []
    text = (
        "The same held-out images as training goes on: what the encoder sees, what the decoder "
        "makes of it, the original."
    )
    return [Text([text]), Pictures(shown)]


def _features(run, notes):
    path = run.folder / "features.png"
    if path.is_file():
        return [Pictures(pictures.some([("features.png", path)], notes))]
    if run.config.get("train.objective") in PRETRAINING and run.checkpoints:
        notes.append(
            "There is no features.png: mae-jax features WORKDIR --images=IMAGES "
            "--out=WORKDIR/features.png makes one, of images of your choice"
        )
    return []


def _plan(run):
    if not run.plan:
        return []
    columns = [c for c in _PLAN if any(e.get(c[1]) not in (None, [], ()) for e in run.plan)]
    rows = [[_planned(estimate, *column[1:]) for column in columns] for estimate in run.plan[:50]]
    caption = "What mae-jax plan expected; the compiler's estimates, without input and collectives"
    return [Table(caption, [title for title, _, _ in columns], rows)]


def _planned(estimate, name, form) -> str:
    value = estimate.get(name)
    if value is None:
        return "—"
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    try:
        return (
            form.format(1000 * value if name == "step_seconds" else value) if form else str(value)
        )
    except (TypeError, ValueError):
        return str(value)


def _folder(run, notes: Sequence[str]):
    classes = run.position.get("classes")
    rows = [["checkpoints at steps", ", ".join(map(str, run.checkpoints)) or "none"]]
    data = run.position.get("data")
    if isinstance(data, dict) and data.get("records") is not None:
        rows.append(["training records", settings.shown(data["records"])])
    if isinstance(classes, list) and classes:
        names = ", ".join(map(str, classes[:_CLASSES]))
        more = f" and {len(classes) - _CLASSES} more" if len(classes) > _CLASSES else ""
        rows.append([f"{len(classes)} classes", settings.shown(names) + more])
    rows.append(["panels", str(len(run.panels))])
    blocks = [Table("What else lies there", ("what", "how many"), rows)]
    return [*blocks, Text([f"{note}." for note in notes])] if notes else blocks


def _only(block):
    return [] if block is None else [block]

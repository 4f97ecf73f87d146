"""The page of a study, or of whatever runs lie below a folder."""

from collections.abc import Sequence

from mae_jax.reports import curves, features, matching, pictures, plots, settings, words
from mae_jax.reports.blocks import Cell, Figures, Legend, Pictures, Section, Table, Text
from mae_jax.reports.comparison import Comparison, milliseconds, palette
from mae_jax.reports.find import Found, Study
from mae_jax.reports.read import Run

_LISTED = 200  # runs in a table
_DRAWN = 100  # runs in a figure
_ENTRIES = 60  # of a legend, at most
_TASKS = (
    ("reconstruct", "Curves of pre-training"),
    ("distill", "Curves of students"),
    ("classify", "Curves of fine-tuning"),
    ("probe", "Curves of linear probes"),
)


def sections(found: Found) -> tuple[list[str], list[Section]]:
    """The paragraphs at the top, and all that there is to tell."""
    notes, made, about = list(found.notes), [], []
    labels, colours = {}, {}
    for index, one in enumerate(found.studies):
        runs = [run for run in found.runs if run.folder.is_relative_to(one.folder)]
        comparison = Comparison(one.rows)
        rows = matching.rows_of(runs, one.rows)
        for name, at in rows.items():
            colours[name], labels[name] = comparison.colours[at], comparison.labels[at]
        steps = matching.step_seconds(runs, rows, len(one.rows))
        about += _about(one, comparison)
        notes += one.notes
        title = f"Results of {one.name}" if len(found.studies) > 1 else "Results"
        made += _study(f"results{index}", title, one, comparison, steps, rows)
        drawn = features.of_study(one.folder, f"features{index}-", notes)
        made.append(Section(f"features{index}", "Features", [Figures(drawn)] if drawn else []))
    others = [run.name for run in found.runs if run.name not in colours]
    colours |= dict(zip(others, palette(len(others)), strict=True))
    labels |= dict(zip(others, others, strict=True))
    about.append(_counted(found.runs))
    made.append(Section("runs", "Runs", _runs(found.runs, colours)))
    made += _curves(found.runs, colours, labels)
    made.append(Section("panels", "Reconstructions", _panels(found.runs, notes)))
    made.append(Section("differences", "Differences between runs", _differences(found.runs)))
    changed = settings.history(found.runs)
    made.append(Section("changes", "Changes on the way", [changed] if changed else []))
    made.append(Section("versions", "Versions and hardware", settings.versions(found.runs)))
    notes += [f"{run.name}: {note}" for run in found.runs for note in run.notes][:50]
    made.append(Section("notes", "Notes", [Text([f"{n}." for n in notes])] if notes else []))
    return about, [section for section in made if section.blocks]


def _about(one: Study, comparison: Comparison) -> list[str]:
    text = f"{one.name} compares {len(comparison.rows)} settings"
    if comparison.settings:
        text += f" of {', '.join(comparison.settings)}"
    common = [f"{name} {settings.shown(value)}" for name, value in comparison.common.items()]
    if common:
        text += f"; the same in all of them: {', '.join(common)}"
    return [f"{text}.", *comparison.best()] if comparison.rows else [*_asked(one)]


def _asked(one: Study) -> list[str]:
    return [f"{one.name} is a study of which no trial has come to its end yet."]


def _study(name, title, one, comparison, steps, rows) -> list[Section]:
    blocks = []
    if comparison.rows:
        over = plots.over_settings(comparison, f"{name}plot")
        blocks = [comparison.table(steps, rows.values()), *([Figures(over)] if over else [])]
        timed = plots.beside_time(comparison, steps, f"{name}time")
        if timed:
            text = (
                "A step's time is the median of what the runs recorded, waiting for data included; "
                "it depends on the machine and on what else ran there."
            )
            entries = [
                (comparison.labels[at], comparison.colours[at])
                for at, seconds in enumerate(steps)
                if seconds is not None
            ]
            blocks += [Text([text]), _legend(entries), Figures(timed)]
    if one.sweep:
        rows = [[key, settings.shown(values)] for key, values in _grid(one.sweep).items()]
        rows += [["seeds", settings.shown(one.sweep.get("seeds"))]]
        then = one.sweep.get("then")
        rows += [["then", ", ".join(map(str, then)) or "nothing"]] if isinstance(then, dict) else []
        blocks.append(Table("What the sweep was asked for", ("what", "values"), rows))
    return [Section(name, title, blocks)]


def _grid(sweep):
    grid = sweep.get("grid")
    return grid if isinstance(grid, dict) else {}


def _counted(runs: Sequence[Run]) -> str:
    if not runs:
        return "No run has a work folder below it."
    complete = sum(run.steps is not None and run.step >= run.steps for run in runs)
    text = f"{len(runs)} run{'s have work folders' if len(runs) > 1 else ' has a work folder'}"
    return f"{text} below it, {complete} of them complete."


def _runs(runs: Sequence[Run], colours) -> list[Table]:
    names = dict.fromkeys(
        name for run in runs for name in run.series if name == "loss" or name.startswith("eval_")
    )
    names = sorted(names, key=lambda name: (name == "loss", name))
    rows = []
    for run in runs[:_LISTED]:
        steps = "?" if run.steps is None else run.steps
        line = [Cell(run.name, colours[run.name]), f"{run.step} of {steps}"]
        for name in names:
            last = run.last(name)
            line.append("—" if last is None else Cell(words.number(last[1], name), exact=last[1]))
        rows.append([*line, milliseconds(run.step_seconds)])
    if not rows:
        return []
    caption = "The last measures of every run"
    if len(runs) > _LISTED:
        caption += f"; the first {_LISTED} of {len(runs)}"
    return [Table(caption, ("run", "steps", *map(curves.title, names), "ms a step"), rows)]


def _curves(runs, colours, labels) -> list[Section]:
    made = []
    for task, title in _TASKS:
        those = [run for run in runs if run.config.get("train.objective") == task]
        drawn = those[:_DRAWN]
        figures = curves.of_runs(drawn, colours, task)
        if not figures:
            continue
        text = "A line for every run"
        if len(those) > _DRAWN:
            text += f"; the first {_DRAWN} of {len(those)} runs"
        legend = _legend([(labels[run.name], colours[run.name]) for run in drawn])
        blocks = [Text([f"{text}."]), legend, Figures(figures)]
        made.append(Section(f"curves-{task}", title, blocks))
    return made


def _legend(entries: Sequence[tuple[str, str]]) -> Legend:
    several = list(dict.fromkeys(entries))
    more = [Cell(f"and {len(several) - _ENTRIES} more")] if len(several) > _ENTRIES else []
    return Legend([*(Cell(*entry) for entry in several[:_ENTRIES]), *more])


def _panels(runs: Sequence[Run], notes: list[str]) -> list:
    last = [
        (f"{run.name}, step {run.panels[-1][0]}", run.panels[-1][1]) for run in runs if run.panels
    ]
    shown = pictures.some(last, notes)
    return [Text(["The last of each run."]), Pictures(shown)] if shown else []


def _differences(runs: Sequence[Run]) -> list[Table]:
    if len(runs) < 2:
        return []
    found = settings.differences(runs)
    return [found] if found else [Text(["All runs have the same configuration."])]

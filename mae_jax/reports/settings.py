"""Configurations as tables: what a run sets, and what differs between runs."""

import json
from collections.abc import Sequence
from typing import Any

from mae_jax.config.schema import all_keys
from mae_jax.reports.blocks import Table
from mae_jax.reports.read import Run

_LONGEST = 160  # characters of a value
_COLUMNS, _ROWS = 40, 200  # of a table of differences, at most
_BESIDE = 5  # runs, at most, that have a column each
_CHANGES = 100


def shown(value: Any) -> str:
    """A value as text."""
    if value is None:
        return "unset"
    text = f"({', '.join(map(str, value))})" if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


def of_run(run: Run) -> list[Table]:
    """What is other than the default, then everything, folded."""
    known = dict(all_keys())
    order = {name: place for place, name in enumerate(known)}
    every, changed = [], []
    for name in sorted(run.config, key=lambda name: (order.get(name, len(order)), name)):
        value, key = run.config[name], known.get(name)
        default = shown(key.default) if key else "not a key of this version"
        every.append([name, shown(value), default, key.meaning if key else ""])
        if key is None or json.loads(json.dumps(key.default)) != value:
            changed.append(every[-1])
    head = ("key", "value", "default", "meaning")
    return [
        Table("What differs from the defaults, as it was resolved", head, changed, aside=True),
        Table(f"All {len(every)} keys", head, every, folded=True, aside=True),
    ]


def differences(runs: Sequence[Run]) -> Table | None:
    """The keys that runs have other values of; None where there are none.

    A row is a key where runs are few, else a run.
    """
    having = [run for run in runs if run.config]
    names = [name for name, _ in all_keys()]
    names += sorted({name for run in having for name in run.config} - set(names))
    missing = object()
    apart = [
        name
        for name in names
        if len({_key(run.config.get(name, missing), missing) for run in having}) > 1
    ]
    if not apart:
        return None
    caption = "Keys whose values differ between runs"
    if len(having) <= _BESIDE:
        names = [run.name for run in having]
        return Table(caption, ("key", *names), [[k, *(_of(r, k) for r in having)] for k in apart])
    if len(apart) > _COLUMNS:
        caption += f"; the first {_COLUMNS} of {len(apart)}"
    if len(having) > _ROWS:
        caption += f"; the first {_ROWS} of {len(having)} runs"
    apart = apart[:_COLUMNS]
    rows = [[run.name, *(_of(run, key) for key in apart)] for run in having[:_ROWS]]
    return Table(caption, ("run", *apart), rows)


def _of(run, key) -> str:
    return shown(run.config[key]) if key in run.config else "—"


def _key(value, missing) -> str:
    return "" if value is missing else json.dumps(value)


def history(runs: Sequence[Run]) -> Table | None:
    """What was changed when runs were resumed; None where nothing was."""
    rows = []
    for run in runs:
        for entry in run.record.get("changed", []):
            keys = entry.get("keys") if isinstance(entry, dict) else None
            if isinstance(keys, list):
                first = [run.name] if len(runs) > 1 else []
                at = str(entry.get("step", "?"))
                rows += [[*first, at, shown(_with_leave(str(key), entry))] for key in keys]
    if not rows:
        return None
    caption = "What was changed when the run was resumed"
    if len(rows) > _CHANGES:
        caption += f"; the last {_CHANGES} of {len(rows)}"
    head = ("run", "from step", "change") if len(runs) > 1 else ("from step", "change")
    return Table(caption, head, rows[-_CHANGES:])


def _with_leave(change, entry) -> str:
    allowed = entry.get("allowed")
    given = isinstance(allowed, list) and change.partition(":")[0] in allowed
    return f"{change} (by --allow_change)" if given else change


def versions(runs: Sequence[Run]) -> list[Table]:
    """Versions and hardware: once where they are the same in all runs, else a column for each."""
    made = []
    for part, title in (("versions", "Versions"), ("hardware", "Hardware")):
        groups: dict[str, list[Run]] = {}
        for run in runs:
            if run.record.get(part):
                groups.setdefault(json.dumps(run.record[part], sort_keys=True), []).append(run)
        if not groups:
            continue
        found = [(json.loads(text), those) for text, those in groups.items()][:8]
        names = list(dict.fromkeys(name for one, _ in found for name in one))
        heads = [_who(those, len(runs)) for _, those in found]
        rows = [[name, *(shown(one.get(name)) for one, _ in found)] for name in names]
        made.append(Table(title, ("", *heads), rows))
    return made


def _who(runs, total) -> str:
    if len(runs) == total:
        return "in all runs" if total > 1 else ""
    if len(runs) == 1:
        return runs[0].name
    return f"{runs[0].name} and {len(runs) - 1} more"

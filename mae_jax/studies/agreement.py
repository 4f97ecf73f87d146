"""What a sweep's folder holds, `sweep.json`: every process that works there does the same."""

import json
import uuid
from pathlib import Path
from typing import Any

from mae_jax import config as config_lib
from mae_jax.errors import UsageError
from mae_jax.studies import claims, grid, study

NAME = "sweep.json"
# Keys of configs whose change leaves what was measured as it is.
_MAY_CHANGE = {
    "data.folder", "data.dir", "data.workers", "data.cache", "log.every_steps",
    "log.panel_every_epochs", "log.sharding", "log.tensorboard",
}  # fmt: skip
_SECTIONS = {"parallel", "checkpoint"}


def settled(folder: Path, wanted: dict[str, Any], *, extend: bool = False) -> dict[str, Any]:
    """What a sweep is, by what is wanted and what its folder holds; writes nothing.

    Args:
      folder: of the sweep.
      wanted: its `config`, `grid`, `seeds`, `then`, which are configs by name, and whether it is a
        `search`.
      extend: whether values, seeds and what is done then may be added to those that are there,
        which stay.

    Raises:
      UsageError: the folder holds another sweep, or something else.
    """
    wanted = json.loads(json.dumps(wanted))
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    held = read(folder)
    if held is None:
        for name in names:
            if not name.startswith("."):
                raise UsageError(
                    f"{str(folder)!r} holds {name!r}, but no sweep; give an empty or a new "
                    "--workdir"
                )
        return wanted
    different, added = _configs(held, wanted), _differences(held, wanted)
    kinds = [(tree["search"], tree["grid"].keys()) for tree in (held, wanted)]
    if different or kinds[0] != kinds[1]:
        raise _other(folder, [*different, *added], "another --workdir")
    if not added:
        return held | {"config": wanted["config"], "then": wanted["then"]}
    if held["search"]:
        raise _other(folder, added, "the same, or another --workdir")
    if not extend:
        how = "the same, --extend to add to what there is, or another --workdir"
        raise _other(folder, added, how)
    return _joined(held, wanted)


def record(folder: Path, agreed: dict[str, Any], **wanted: Any) -> dict[str, Any] | None:
    """Writes what a sweep is into its folder.

    Args:
      agreed: what `settled` returned.
      wanted: the arguments that it was given.

    Returns:
      The same, with an `id` of the folder; None where another process has changed it since.
    """
    with claims.waiting(folder / ".lock"):
        if settled(folder, **wanted) != agreed:
            return None
        agreed = {"id": uuid.uuid4().hex} | agreed
        if agreed != read(folder):
            study.write(folder / NAME, json.dumps(agreed, indent=1) + "\n")
        return agreed


def read(folder: Path) -> dict[str, Any] | None:
    """What a folder's sweep is; None where there is none."""
    try:
        return json.loads((folder / NAME).read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise UsageError(f"{str(folder / NAME)!r} cannot be read") from None


def same(one: dict[str, Any] | None, other: dict[str, Any]) -> bool:
    """Whether two of them have the same trials."""
    return one is not None and _trials(one) == _trials(other)


def _trials(tree):
    return tree["grid"], tree["seeds"], tree["then"].keys()


def _other(folder, different, how) -> UsageError:
    return UsageError(
        f"{str(folder)!r} holds another sweep; give {how}. Different are: " + "; ".join(different)
    )


def _configs(held, wanted) -> list[str]:
    """Lines for what differs in configs that both have."""
    pairs = {"config": (held["config"], wanted["config"])}
    for name in held["then"].keys() & wanted["then"].keys():
        pairs[f"then {name}"] = held["then"][name], wanted["then"][name]
    lines = []
    for title, (old, new) in sorted(pairs.items()):
        same = _MAY_CHANGE | _unknown_then(old, new)
        for line in config_lib.changes(old, new):
            key = line.partition(":")[0]
            if key not in same and key.partition(".")[0] not in _SECTIONS:
                lines.append(line if title == "config" else f"{title}: {line}")
    return lines


def _unknown_then(old, new) -> set[str]:
    """Keys that the version which wrote `old` did not know, where `new` has what it did."""
    old, new = config_lib.flatten(old), config_lib.flatten(new)
    defaults = [config_lib.default_config().to_dict(), config_lib.with_defaults({})]
    did = json.loads(json.dumps([config_lib.flatten(tree) for tree in defaults]))
    return {
        name
        for name in new.keys() - old.keys()
        if any(name in tree and tree[name] == new[name] for tree in did)
    }


def _differences(held, wanted) -> list[str]:
    """Lines for what differs in the grid, the seeds, and the names of what is done then."""
    flat = [
        {f"--grid {name}": _shown(values) for name, values in tree["grid"].items()}
        | {"--seeds": tree["seeds"], "--then": ",".join(sorted(tree["then"])) or None}
        | ({"--search": "as it was"} if tree["search"] else {})
        for tree in (held, wanted)
    ]
    return config_lib.changes(*flat)


def _shown(values) -> str:
    return values if isinstance(values, str) else ",".join(map(grid.shown, values))


def _joined(held, wanted):
    values = {
        name: [*there, *(v for v in wanted["grid"][name] if v not in there)]
        for name, there in held["grid"].items()
    }
    values = json.loads(json.dumps(grid.checked(values)))
    return held | {
        "config": wanted["config"],
        "grid": values,
        "seeds": max(held["seeds"], wanted["seeds"]),
        "then": held["then"] | wanted["then"],
    }

"""Configurations: their defaults, whether they are right, what `--help` says.

A config file is Python: its `get_config()` takes `default_config()`, changes what it wants and
returns it. Any key can be changed again on the command line: `--config.model.mask_ratio=0.6`.
The keys themselves are in `schema`.
"""

import difflib
import math
import textwrap
from typing import Any

from ml_collections import config_dict

from mae_jax.config.architecture import USUAL
from mae_jax.config.cross_checks import check_together
from mae_jax.config.key import Key
from mae_jax.config.schema import SCHEMA, all_keys
from mae_jax.errors import UsageError


def default_config() -> config_dict.ConfigDict:
    """All keys at their defaults, locked: an unknown key is an error wherever it is written."""

    def build(schema):
        config = config_dict.ConfigDict()
        for name, entry in schema.items():
            if isinstance(entry, dict):
                config[name] = build(entry)
            elif entry.default is None:
                config[name] = config_dict.placeholder(entry.type)
            else:
                config[name] = entry.default
        return config

    return build(SCHEMA).lock()


def with_defaults(resolved: dict[str, Any]) -> dict[str, Any]:
    """A resolved config with the defaults of keys that its version did not know.

    They are what that version did: a new key's default leaves everything as it was.
    """
    config = default_config().to_dict()
    for name, section in resolved.items():
        config[name] = config.get(name, {}) | section if isinstance(section, dict) else section
    for name, value in USUAL.items():
        if config["model"][name] is None:
            config["model"][name] = value
    return config


def unknown(resolved: dict[str, Any]) -> list[str]:
    """The keys of a resolved config that this version does not know."""
    known = dict(all_keys())
    return [name for name in flatten(resolved) if name not in known]


def nearest(unknown: str) -> str:
    """The key of the schema most like `unknown`, for an error message."""
    names = [name for name, _ in all_keys()]
    by_last = {name.rsplit(".", 1)[-1]: name for name in names}
    close = difflib.get_close_matches(unknown, names, 1, 0.0)
    last = difflib.get_close_matches(unknown.rsplit(".", 1)[-1], by_last, 1, 0.7)
    same_section = [n for n in close if n.split(".")[0] == unknown.split(".")[0]]
    return (same_section or [by_last[name] for name in last] or close)[0]


def unknown_key(name: str) -> UsageError:
    """The error for a key that is not in the schema."""
    return UsageError(f"config key {name!r} is unknown; did you mean {nearest(name)!r}?")


def validate(config: config_dict.ConfigDict, *, trains: bool = True) -> None:
    """Checks every key by itself and those that must fit together.

    Args:
      trains: whether there is a training, which must say how long it is.

    Raises:
      UsageError: the first key that is wrong, its value, and what would be right.
    """
    known = dict(all_keys())
    values = flatten(config.to_dict())
    for name in values:
        if name not in known:
            raise unknown_key(name)
    for name in known:
        if name not in values:
            raise UsageError(
                f"config key {name} is missing; a config starts from "
                "mae_jax.config.default_config()"
            )
        check_value(name, values[name])
    check_together(config, trains=trains)


def check_value(name: str, value: Any) -> None:
    """Raises UsageError unless a key may have this value, whatever the others have."""
    key = dict(all_keys())[name]
    if value is None:
        if key.default is not None:
            raise UsageError(f"config key {name} is unset; it must be {expected(key)}")
        return
    number = key.type is float and isinstance(value, int) and not isinstance(value, bool)
    if not (number or isinstance(value, key.type)) or (
        isinstance(value, bool) and key.type is not bool
    ):
        raise UsageError(f"config key {name} is {value!r}; it must be {expected(key)}")
    if not _finite(value) or not _allowed(key, value):
        raise UsageError(f"config key {name} is {value!r}; it must be {expected(key)}")


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries to one with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _finite(value) -> bool:
    """Whether the numbers of a value, those inside of tuples too, are numbers that floats hold."""
    if isinstance(value, tuple | list):
        return all(map(_finite, value))
    try:
        return not isinstance(value, int | float) or math.isfinite(value)
    except OverflowError:
        return False


def _allowed(key: Key, value) -> bool:
    try:
        return bool(key.allowed(value))
    except TypeError:  # parts of a tuple that cannot be compared with numbers
        return False


def describe() -> str:
    """All keys with default and meaning, one a line, for `--help`."""
    lines, indent = [], " " * 6
    for name, key in all_keys():
        default = "" if key.default is None else f" [{key.default}]"
        limit = f" ({key.range})" if key.range else ""
        meaning = textwrap.fill(
            key.meaning + limit, 98, initial_indent=indent, subsequent_indent=indent,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        lines.append(f"  --config.{name}{default}\n{meaning}")
    return "\n".join(lines)


def expected(key: Key) -> str:
    """What a key must be, in words."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}
    kind = names.get(key.type, "a tuple")
    return key.range if key.range and key.type is str else f"{kind} {key.range}".strip()

"""The settings of a sweep: values of config keys, as text and as names of folders."""

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mae_jax.config import unknown_key
from mae_jax.config.key import Key
from mae_jax.config.overrides import parsed
from mae_jax.config.reading import check_value
from mae_jax.config.schema import all_keys
from mae_jax.errors import UsageError

Setting = dict[str, Any]  # a config key, named with dots, to its value
_SWEPT_OTHERWISE = {"seed": "--seeds", "train.objective": "--then"}
_LONGEST = 100  # characters of a folder's name, of 255 that file systems take


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included, for a search; evenly in their logarithm, or not."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"{self.low}..{self.high}" + (":log" if self.log else "")


Values = Sequence[Any] | Range


def read(text: str) -> tuple[str, Values]:
    """A key and its values, of `KEY=VALUE,VALUE`, `KEY=LOW..HIGH` or `KEY=LOW..HIGH:log`.

    Commas within brackets or quotes are part of a value.

    Raises:
      UsageError: an unknown key, or text that is no value of it.
    """
    name, equals, values = text.partition("=")
    key, said = _key(name), f"--grid {text}"
    if not equals or not values:
        raise UsageError(f"{said}: values are missing, as in {name}=VALUE,VALUE")
    if key.type in (int, float) and ".." in values:
        ends, _, scale = values.partition(":")
        low, _, high = ends.partition("..")
        if scale not in ("", "log"):
            raise UsageError(f"{said}: a range is LOW..HIGH or LOW..HIGH:log")
        return name, Range(*(parsed(name, key, e, said) for e in (low, high)), log=scale == "log")
    return name, tuple(parsed(name, key, part, said) for part in _split(values))


def checked(grid: Mapping[str, Values], *, ranges: bool = False) -> dict[str, Values]:
    """The same in one order, whatever that of the keys and values was, each value of its type.

    Args:
      ranges: whether there may be any.

    Raises:
      UsageError: an unknown key, a value that it cannot have, or one that is there twice.
    """
    order = [name for name, _ in all_keys()]
    for name in grid:
        _key(name)
    return {name: _values(name, grid[name], ranges) for name in sorted(grid, key=order.index)}


def settings(grid: Mapping[str, Sequence[Any]]) -> Iterator[Setting]:
    """Every combination of the values."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def name(setting: Setting) -> str:
    """The setting's own, as any file system takes it: `mask_ratio=0.75,norm_pix=True`.

    Names that differ in nothing but the case of letters do not occur.
    """
    parts = (f"{key.rpartition('.')[2]}={_slug(value)}" for key, value in setting.items())
    whole = ",".join(parts) or "base"
    return whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 9]}-{_hash(whole)}"


def shown(value: Any) -> str:
    """A value in a table."""
    return f"({', '.join(map(str, value))})" if isinstance(value, tuple | list) else str(value)


def _key(name: str) -> Key:
    known = dict(all_keys())
    if name not in known:
        raise unknown_key(name)
    if name in _SWEPT_OTHERWISE:
        raise UsageError(f"config key {name!r} is not for --grid; {_SWEPT_OTHERWISE[name]} is")
    return known[name]


def _values(name, values, ranges):
    key = dict(all_keys())[name]
    if isinstance(values, Range):
        if not ranges:
            raise UsageError(f"{name}={values} is a range, which needs --search; a grid has values")
        found = [_typed(name, key, value) for value in (values.low, values.high)]
        if key.type not in (int, float) or not found[0] < found[1]:
            raise UsageError(f"{name}={values}: a range is of numbers, from low to high")
        if values.log and found[0] <= 0:
            raise UsageError(f"{name}={values}: a logarithm needs numbers above 0")
        return Range(*found, values.log)
    found = [_typed(name, key, value) for value in values]
    if not found:
        raise UsageError(f"config key {name} has no values in the grid")
    for value in found:
        if found.count(value) > 1:
            raise UsageError(f"config key {name} has the value {value!r} twice in the grid")
    return tuple(sorted(found, key=_place))


def _typed(name, key, value):
    if isinstance(value, list):
        value = tuple(tuple(part) if isinstance(part, list) else part for part in value)
    check_value(name, value)
    return float(value) if key.type is float and value is not None else value


def _place(value):
    return value is not None, value if isinstance(value, int | float | str) else repr(value)


def _slug(value) -> str:
    if isinstance(value, bool | int | float) or value is None:
        return str(value)
    if isinstance(value, tuple):
        plain = all(isinstance(part, int | float) for part in value)
        text = "_".join(map(str, value)) if plain else repr(value)
        if plain and value:
            return text
    else:
        text = value
        # Small letters alone, and not "none": some file systems do not tell large ones from them.
        if re.fullmatch("(?!none$)[a-z0-9][a-z0-9_-]{,39}", text):
            return text
    readable = re.sub("[^A-Za-z0-9_-]+", "_", text).strip("_")[:40]
    return f"{readable}-{_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _split(text: str) -> list[str]:
    """At the commas outside of brackets and quotes; quotes around a whole part go."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        depth += (character in "([") - (character in ")]") if not quote else 0
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [
        part[1:-1] if len(part) > 1 and part[0] == part[-1] and part[0] in "'\"" else part
        for part in parts
    ]

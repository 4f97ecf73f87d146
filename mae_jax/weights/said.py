"""What files say of their weights, in JSON: looked at before anything believes it."""

import json
import math
import re
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mae_jax.errors import UsageError
from mae_jax.pixels import KINDS, NODATA, is_nodata


class _Kind(NamedTuple):
    fits: Callable[[Any], bool]
    words: str


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2**63 and math.isfinite(value)


def _each(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and all(map(fits, value))


def _text(value: Any) -> bool:
    return isinstance(value, str)


_WHOLE = _Kind(_whole, "a whole number")
_FLAG = _Kind(lambda value: isinstance(value, bool), "true or false")
_TEXT = _Kind(_text, "text")
_NAMES = _Kind(_each(_text), "a list of names")
_SECTION = _Kind(lambda value: isinstance(value, dict), "an object")
_SIDES = _Kind(
    lambda value: _whole(value) or (_each(_whole)(value) and len(value) == 2),
    "a whole number, or two",
)
_KNOWN = {
    "heads": _WHOLE,
    "decoder_heads": _WHOLE,
    "image_size": _SIDES,
    "patch_size": _SIDES,
    "class_token": _FLAG,
    "registers": _WHOLE,
    "gelu": _Kind(lambda value: value in ("erf", "tanh"), "erf or tanh"),
    "norm_pix": _FLAG,
    "mask_ratio": _Kind(lambda value: _number(value) and 0 <= value <= 1, "a number in 0 to 1"),
    "sampling": _TEXT,
    "mask_unit": _WHOLE,
    "loss_on": _TEXT,
    "decode_ratio": _Kind(lambda value: _number(value) and 0 < value <= 1, "above 0 and at most 1"),
    "decoder_attention": _Kind(lambda value: value in ("self", "cross"), "self or cross"),
    "target": _TEXT,
    "pixels": _Kind(lambda value: value in KINDS, " or ".join(KINDS)),
    "mean": _Kind(_each(_number), "a list of numbers"),
    "std": _Kind(_each(lambda n: _number(n) and n > 0), "a list of numbers above 0"),
    "crop": _Kind(lambda value: _number(value) and 0 < value <= 1, "a number in 0 to 1"),
    "max_pixels": _WHOLE,
    "nodata": _Kind(
        lambda value: isinstance(value, str) and is_nodata(value),
        f"{', '.join(NODATA)}, or a number as text",
    ),
    "origin": _SECTION,
}
_ORIGIN = {
    "license": _TEXT,
    "teacher": _TEXT,
    "teacher_license": _TEXT,
    "teacher_sha256": _TEXT,
    "classes": _NAMES,
    "step": _WHOLE,
    "steps": _WHOLE,
    "config": _SECTION,
    "metrics": _Kind(
        lambda value: isinstance(value, dict) and all(map(_number, value.values())),
        "an object of numbers",
    ),
}


def checked(said: dict[str, Any], source: str) -> dict[str, Any]:
    """Of what a source says, what is asked of it (see `described.describe`).

    Args:
      said: by name; None, or nothing, where it says nothing.
      source: to name in errors.

    Raises:
      UsageError: a value is of another kind than it must be.
    """
    known = {name: value for name, value in said.items() if name in _KNOWN and value is not None}
    for name, value in known.items():
        _check(name, value, _KNOWN[name], source)
    for name, value in known.get("origin", {}).items():
        if name in _ORIGIN and value is not None:
            _check(name, value, _ORIGIN[name], source)
    return known


def section(content: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    """An object in a JSON object; an empty one where it is null or missing.

    Raises:
      UsageError: there is something else.
    """
    value = content.get(name) or {}
    _check(name, value, _SECTION, source)
    return value


def names(value: Any, name: str, source: str) -> list[str]:
    """A list of names, or the values of an object that numbers them; empty where there is none.

    Raises:
      UsageError: it is something else.
    """
    value = list(value.values()) if isinstance(value, dict) else value or []
    _check(name, value, _NAMES, source)
    return value


def _check(name, value, kind, source):
    if not kind.fits(value):
        shown = reprlib.repr(value)
        raise UsageError(f"{source} says {name} {shown}; it must be {kind.words}")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
      UsageError: it cannot be read, is damaged, or holds something else.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{str(path)!r} cannot be read: {reason}") from None
    return parsed(text, repr(str(path)))


def parsed(text: str, source: str) -> dict[str, Any]:
    """The object that JSON text holds; see `read_json`."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{source} is damaged: it holds no object")
    return content


def license_of(card: Path) -> str | None:
    """What the front matter of a card says; None where there is no such card."""
    try:
        text = card.read_bytes().decode(errors="replace")
    except OSError:
        return None
    front = text.split("---")[1] if text.startswith("---") and text.count("---") > 1 else ""
    found = re.search(r"^license: *(\S+)", front, re.MULTILINE)
    return found.group(1) if found else None


def listed_sums(path: Path) -> dict[str, str]:
    """SHA-256 by file name, of a list as `sha256sum` writes it; empty where there is none.

    Raises:
      UsageError: a line is none of such a list.
    """
    try:
        lines = path.read_bytes().decode(errors="replace").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        entry = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if entry is None:
            raise UsageError(f"{str(path)!r} is damaged: {reprlib.repr(line)} is no checksum")
        found[entry.group(2)] = entry.group(1)
    return found

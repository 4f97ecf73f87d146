"""One configuration key, and the ranges that many keys have."""

import dataclasses
from collections.abc import Callable
from typing import Any

from mae_jax.config import functions


@dataclasses.dataclass(frozen=True)
class Key:
    """One configuration key.

    Attributes:
      default: the default; None for a key that may stay unset.
      meaning: what it is, with its unit.
      kind: its type; that of the default where not given.
      allowed: whether a value is in range.
      range: that range, in words.
    """

    default: Any
    meaning: str
    kind: type | None = None
    allowed: Callable[[Any], bool] = lambda value: True
    range: str = ""

    @property
    def type(self) -> type:
        return self.kind or type(self.default)


def at_least(low, **kwargs) -> dict[str, Any]:
    """Numbers from `low` on."""
    return dict(allowed=lambda value: value >= low, range=f"at least {low}", **kwargs)


def above(low, **kwargs) -> dict[str, Any]:
    """Numbers above `low`."""
    return dict(allowed=lambda value: value > low, range=f"above {low}", **kwargs)


def one_of(*values, **kwargs) -> dict[str, Any]:
    """Some values and no others."""
    names = ", ".join(str(value) for value in values)
    return dict(allowed=lambda value: value in values, range=f"one of {names}", **kwargs)


def one_of_or_function(*values) -> dict[str, Any]:
    """Some words, or a function that the config names."""
    return dict(
        allowed=lambda value: value in values or functions.is_named(value),
        range=f"one of {', '.join(values)}, or a function of your own, {functions.FORM}",
    )


def within(low, high, **kwargs) -> dict[str, Any]:
    """Numbers from `low` to `high`."""
    return dict(allowed=lambda value: low <= value <= high, range=f"from {low} to {high}", **kwargs)


below_one = dict(allowed=lambda value: 0 <= value < 1, range="at least 0 and below 1")
sides = dict(
    allowed=lambda sides: 1 <= len(sides) <= 2 and all(type(s) is int and s > 0 for s in sides),
    range="of one side for squares, or of height and width",
)


def all_numbers(values) -> bool:
    """Whether all of them are numbers."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def is_pair(values) -> bool:
    """Whether they are two numbers, the larger one last."""
    return len(values) == 2 and all_numbers(values) and values[0] <= values[1]


interval = dict(
    allowed=lambda pair: is_pair(pair) and pair[0] > 0,
    range="(low, high) with 0 < low <= high",
)

"""Split expressions, as tfds spells them, over anything whose parts have names and lengths.

A name that is no word, or is that of the split `all`, is written in quotes: 'val 2'[:50%]. A quote
in it is written twice.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Collection, Mapping, Sized

from mae_jax.data.split_names import is_split
from mae_jax.errors import UsageError

ALL = "all"  # everything there is, where it is offered
_WORD = re.compile(r"[\w-]+")
_NAME = re.compile(r"((?:^|\+)\s*)('(?:[^']|'')*'|[\w-]+)")
_SHOWN = 20  # names in a message, at most


@dataclasses.dataclass(frozen=True)
class _Length:
    """What tfds' split expressions ask of a split."""

    num_examples: int


def quoted(name: str) -> str:
    """A split's name as it is written in an expression."""
    if name != ALL and _WORD.fullmatch(name):
        return name
    return "'" + name.replace("'", "''") + "'"


def absolute(
    expression: str, splits: Mapping[str, Sized], everything: Sized | None = None
) -> list[tuple[str | None, int, int]]:
    """(name, start, stop) for each part of a tfds split expression.

    Args:
      expression: see above.
      splits: the parts there are, by name.
      everything: what `all` stands for, if it may be asked for; its name in the result is None.

    Raises:
      UsageError: it names a split that is not there, or is no such expression.
    """
    import tensorflow_datasets as tfds

    # tfds reads words only, and does not slice `all`: every name is given to it as another.
    names = list(splits)
    parts: list[Sized] = [*splits.values()] + ([] if everything is None else [everything])
    places = {name: place for place, name in enumerate(names)}
    composed = {unicodedata.normalize("NFC", name): place for name, place in places.items()}

    def rename(found):
        plus, written = found.groups()
        if written == ALL:
            return f"{plus}{ALL}" if everything is None else f"{plus}part{len(names)}"
        name = _unquoted(written)
        # The same letter may be written in two ways, and keyboards and file systems differ.
        place = places.get(name, composed.get(unicodedata.normalize("NFC", name)))
        if place is None:
            raise UsageError(_unknown(expression, names, everything is not None))
        return f"{plus}part{place}"

    lengths = {f"part{place}": _Length(len(part)) for place, part in enumerate(parts)}
    instruction = tfds.core.ReadInstruction  # here, as an incomplete tfds has none
    try:
        found = instruction.from_spec(_NAME.sub(rename, expression))
        made = found.to_absolute(lengths)
    except (ValueError, AssertionError, NotImplementedError, AttributeError):
        raise UsageError(_unknown(expression, names, everything is not None)) from None
    chosen = []
    for part in made:
        place = int(part.splitname.removeprefix("part"))
        stop = len(parts[place]) if part.to is None else part.to
        chosen.append((names[place] if place < len(names) else None, part.from_ or 0, stop))
    return chosen


def if_classes(names: Collection[str]) -> str:
    """What to say of parts that are classes and not splits, as the end of a sentence."""
    if not names or any(map(is_split, names)):
        return ""
    return (
        "; if these are classes, --config.data.split='all[:80%]' and "
        "--config.data.eval_split='all[80%:]' train on some of each and measure on the rest"
    )


def _unquoted(written: str) -> str:
    return written[1:-1].replace("''", "'") if written[0] == "'" else written


def _unknown(expression: str, names: list[str], has_all: bool) -> str:
    known = [quoted(name) for name in sorted(names)]
    shown = known[:_SHOWN] + ([f"{len(known) - _SHOWN} more"] if len(known) > _SHOWN else [])
    shown += [ALL] if has_all else []
    advice = if_classes(names) if has_all else ""
    return (
        f"data split {expression!r} is unknown; known are {', '.join(shown)}, and parts of them "
        f"such as {[*known, ALL][0]}[:90%]{advice}"
    )

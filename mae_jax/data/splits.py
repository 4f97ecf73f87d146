"""Split expressions, as tfds spells them, over anything whose parts have names and lengths."""

import dataclasses
from collections.abc import Mapping, Sized

from mae_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class _Length:
    """What tfds' split expressions ask of a split."""

    num_examples: int


def absolute(expression: str, splits: Mapping[str, Sized]) -> list[tuple[str, int, int]]:
    """(name, start, stop) for each part of a tfds split expression.

    Raises:
      UsageError: it names a split that is not there, or is no such expression.
    """
    import tensorflow_datasets as tfds

    if expression.startswith("all[") and "all" in splits:
        # tfds does not slice `all`; under any other name it does.
        splits = {("everything" if k == "all" else k): v for k, v in splits.items()}
        parts = absolute("everything" + expression[3:], splits)
        return [("all", start, stop) for _, start, stop in parts]
    if expression == "all" and "all" in splits:
        return [("all", 0, len(splits["all"]))]
    lengths = {name: _Length(len(records)) for name, records in splits.items()}
    try:
        parts = tfds.core.ReadInstruction.from_spec(expression).to_absolute(lengths)
    except (ValueError, AssertionError, NotImplementedError):
        raise UsageError(
            f"data split {expression!r} is unknown; known are {', '.join(sorted(splits))}, and "
            "parts of them such as "
            f"{sorted(splits)[0]}[:90%]"
        ) from None
    return [
        (
            part.splitname,
            0 if part.from_ is None else part.from_,
            len(splits[part.splitname]) if part.to is None else part.to,
        )
        for part in parts
    ]

"""What a run says of its data before it begins, so that a wrong folder is seen at once."""

import numpy as np

from mae_jax.data.records import NO_LABEL, Source
from mae_jax.errors import printable

_CLASSES = 10  # that are named with their counts, at most


def describe(source: Source) -> str:
    """Images, sets and classes of a source, in one line."""
    text = f"{len(source)} {source.noun}{'s' if len(source) > 1 else ''}"
    if source.left_out:
        text += f" (beside them lie {source.left_out}, which are not read)"
    if source.shares is not None:
        shares = np.array(source.shares) / sum(source.shares)
        sizes, parts = map(str, source.parts), (f"{share:.0%}" for share in shares)
        text += f" ({' + '.join(sizes)}, in shares of {' + '.join(parts)})"
    if not source.classes:
        reason = f" ({source.unlabelled})" if source.unlabelled else ""
        return printable(f"{text}, without labels{reason}")
    names = [str(name) for name in source.classes]
    text += f" of {len(names)} {'classes' if len(names) > 1 else 'class'}: "
    labels = source.known_labels()
    if labels is None:
        return printable(text + _shortened(names))
    counts = np.bincount(labels[labels != NO_LABEL], minlength=len(names))
    text += _shortened([f"{name} ({n})" for name, n in zip(names, counts, strict=True)])
    if len(names) > _CLASSES:
        text += f", with {counts.min()} to {counts.max()} {source.noun}s each"
    if counts.sum() < len(source):
        text += f"; {len(source) - counts.sum()} have no label"
    return printable(text)


def _shortened(names: list[str]) -> str:
    if len(names) <= _CLASSES:
        return ", ".join(names)
    return f"{', '.join(names[:_CLASSES])} and {len(names) - _CLASSES} more"

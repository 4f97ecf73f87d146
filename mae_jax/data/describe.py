"""What a run says of its data before it begins, so that a wrong folder is seen at once."""

import contextlib
from collections.abc import Iterator

import numpy as np

from mae_jax.data.form import Form
from mae_jax.data.images import open_image
from mae_jax.data.records import NO_LABEL, Source
from mae_jax.errors import BrokenRecord, printable

_CLASSES = 10  # that are named with their counts, at most
_LOOKED_AT = 5  # images, whose middle size is said
_COMPARED = 2_000_000  # records, at most: more have too many names to go through at a start


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


def overlap(train: Source, held_out: Source) -> str | None:
    """A sentence about held-out records that are trained on, too; None where there are none.

    Args:
      train, held_out: of one data set, or mixture of some, so that names tell records apart.
    """
    if len(train) > _COMPARED or len(held_out) > _COMPARED:
        return None
    here = set(_named(held_out))
    both = len(here.intersection(_named(train)))
    if not both:
        return None
    which = "all" if both == len(here) else f"{both} of {len(here)}"
    return (
        f"{which} held-out {held_out.noun}s are trained on, too, so that what is measured on them "
        "says less of others; data.split and data.eval_split keep them apart, as 'all[:80%]' and "
        "'all[80%:]' do"
    )


def enlarged(source: Source, form: Form, sides: tuple[int, int]) -> str | None:
    """In words, that images are far smaller than what is made of them; None where they are not.

    Args:
      form: what they are decoded to.
      sides: height and width that they are brought to.
    """
    found = []
    for index in np.linspace(0, len(source) - 1, _LOOKED_AT).astype(int):
        with contextlib.suppress(BrokenRecord):  # which are counted where they are met
            record = source[int(index)]
            image = open_image(record.data, form, record.name)
            found.append((image.height, image.width))
    if not found:
        return None
    height, width = sorted(found, key=min)[len(found) // 2]
    if 2 * min(height, width) > min(sides):
        return None
    return (
        f"{source.noun}s of about {height} x {width} pixels are enlarged to {sides[0]} x {sides[1]}"
    )


def _named(source: Source) -> Iterator[tuple[int, str]]:
    """Each record's name, with the number of the set that it is of: names are a set's own."""
    sets = np.repeat(np.arange(len(source.parts)), source.parts)
    return ((int(part), source.name(index)) for index, part in enumerate(sets))


def _shortened(names: list[str]) -> str:
    if len(names) <= _CLASSES:
        return ", ".join(names)
    return f"{', '.join(names[:_CLASSES])} and {len(names) - _CLASSES} more"

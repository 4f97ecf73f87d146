"""Few labels: draws of some labelled records of every class."""

import numpy as np

from mae_jax.data.records import Source
from mae_jax.data.subset import Subset
from mae_jax.errors import UsageError


def few_labels(source: Source, data) -> Source:
    """The labelled records that the config's `data` section asks for; all where it asks for none.

    Args:
      data: `labels_per_class` or `labels_share`, and `label_draw`: the same draw gives the same
        records.

    Raises:
      UsageError: there are no labels, too few of a class, or a set of several has none of them.
    """
    if data.labels_per_class is None and data.labels_share is None:
        return source
    name = "labels_per_class" if data.labels_share is None else "labels_share"
    if not source.classes:
        raise UsageError(f"data.{name} {data[name]} {source.no_labels()}")
    chosen = draw(
        source.labels(),
        source.classes,
        per_class=data.labels_per_class,
        share=data.labels_share,
        number=data.label_draw,
    )
    few = Subset(source, chosen)
    if len(few.parts) < len(source.parts):
        raise UsageError(
            f"data.{name} {data[name]} with data.label_draw {data.label_draw} takes no record of "
            f"{len(source.parts) - len(few.parts)} of the sets of data.mixture; take more"
        )
    return few


def draw(
    labels: np.ndarray,
    classes,
    *,
    per_class: int | None = None,
    share: float | None = None,
    number: int = 0,
) -> np.ndarray:
    """Which records a draw takes, in ascending order.

    Args:
      labels: (records,) of all.
      classes: their names.
      per_class: how many of each; or else
      share: of each class, rounded, and at least one.
      number: of the draw.

    Raises:
      UsageError: a class has too few records.
    """
    rng, chosen = np.random.default_rng(number), []
    for index, name in enumerate(classes):
        members = np.flatnonzero(labels == index)
        wanted = per_class if per_class is not None else max(1, round(share * len(members)))
        if len(members) < wanted:
            asked = "labels_per_class" if per_class is not None else "labels_share"
            value = per_class if per_class is not None else share
            raise UsageError(
                f"data.{asked} {value} is more than the {len(members)} images of class {name!r}"
            )
        chosen.append(rng.permutation(members)[:wanted])
    return np.sort(np.concatenate(chosen))

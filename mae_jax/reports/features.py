"""Features that a comparison of frozen encoders has kept, along two directions."""

from pathlib import Path

import numpy as np

from mae_jax.reports import figures
from mae_jax.reports.comparison import palette

_ENCODERS, _CLASSES, _IMAGES = 6, 10, 500  # in figures, at most
_LARGEST = 1e9  # bytes of a file that is read


def of_study(folder: Path, group: str, notes: list[str]) -> list[figures.Figure]:
    """Held-out images of a few classes, where their features differ most: two principal components.

    Args:
      folder: of the study.
      group: what the figures' names on the page begin with.
      notes: gets a sentence for what is left out.
    """
    paths = sorted(folder.glob("features/*-held-out-*.npz"))
    paths = [path for path in paths if "-held-out-patches" not in path.name]  # of no one place
    if len(paths) > _ENCODERS:
        notes.append(f"Features of {_ENCODERS} of {len(paths)} encoders are drawn")
    made = []
    for path in paths[:_ENCODERS]:
        try:
            if path.stat().st_size > _LARGEST:
                raise ValueError("it is larger than 1 GB")
            made.append(_figure(path, f"{group}{len(made)}"))
        except Exception as error:  # whatever numpy says of a file that is torn, or another
            notes.append(f"{path.name} cannot be drawn ({type(error).__name__}: {error})")
    return made


def _figure(path, name) -> figures.Figure:
    with np.load(path) as file:
        labels, classes = file["labels"], [str(one) for one in file["classes"]]
        some = np.flatnonzero((labels < _CLASSES) & ~file["broken"])
        some = some[np.linspace(0, len(some) - 1, min(len(some), _IMAGES)).astype(int)]
        name = [name for name in file.files if name.startswith("features")][-1]  # the last layer
        labels, features = labels[some], file[name][some].astype(float)
    features -= features.mean(0)
    _, lengths, axes = np.linalg.svd(features, full_matrices=False)
    axes = axes[:2] * np.where(axes[:2].sum(1, keepdims=True) < 0, -1, 1)  # one of two signs
    places = features @ axes.T
    told = (lengths[:2] ** 2).sum() / max((lengths**2).sum(), 1e-30)
    shown = [
        figures.Line(
            classes[label] if label >= 0 else "no label",
            [(float(x), float(y)) for x, y in places[labels == label]],
            colour,
            marked=True,
            joined=False,
        )
        for label, colour in zip(np.unique(labels), palette(len(np.unique(labels))), strict=True)
    ]
    caption = f"{len(some)} held-out images; the two directions have {told:.0%} of the variance."
    if len(classes) > _CLASSES:
        caption += f" The first {_CLASSES} of {len(classes)} classes."
    return figures.lines(
        name,
        f"Features of {path.stem.replace('-held-out-', ', ')}",
        shown,
        x="first principal component",
        y="second principal component",
        log_y=False,
        caption=caption,
        words="A mark for each image, coloured by its class",
    )

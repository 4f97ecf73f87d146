"""Classes of new images: a table, and a sheet of pictures to look at."""

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data import sources
from mae_jax.data.progress import Progress, say
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.inference.evaluation import imagenet_classes
from mae_jax.inference.pictures import picture_path
from mae_jax.inference.views import BROKEN_SHARE, none_is_sound, views
from mae_jax.visualize import predictions
from mae_jax.weights.load import PretrainedClassifier

_BATCH = 256
_PICTURES = 40  # at most, in a sheet


def predict(
    classifier: PretrainedClassifier,
    source: sources.Source,
    out: str | Path,
    *,
    top: int = 5,
    sheet: str | Path | None = None,
    broken_share: float = BROKEN_SHARE,
) -> dict[str, Any]:
    """Writes the likeliest classes of every record, in order, to a CSV file.

    Its columns are `name`, `class`, `probability`, then `class_2`, `probability_2` and so on. A
    broken record has its name and empty cells. The file appears when it is whole.

    Args:
      out: the CSV file, to be made: one that is there may have been corrected by hand.
      top: how many classes a row names; all of them where there are fewer.
      sheet: a picture of some of the images with their classes.
      broken_share: of the records that may be broken, rounded up; they are named.

    Returns:
      Where the files lie, how many images, how many broken, and how many of each class.

    Raises:
      UsageError: `out` is there already, a file cannot be written, or `top` is below 1.
      BrokenRecord: more images cannot be read than `broken_share`, or none can; there is no table.
    """
    if top < 1:
        raise UsageError(f"--top={top} must be at least 1")
    path = _table_path(out)
    pictured = None if sheet is None else picture_path(sheet, "--sheet")
    classes = _names(classifier)
    top = min(top, len(classes))
    some = set(np.linspace(0, len(source) - 1, min(_PICTURES, len(source))).round().astype(int))
    counts, broken, shown = np.zeros(len(classes), int), 0, []
    progress, making = Progress(len(source)), path.with_name(f".{path.name}.{os.getpid()}")
    pixels = classifier.weights.pixels
    try:
        with making.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            ranks = ["", *(f"_{rank}" for rank in range(2, top + 1))]
            writer.writerow(["name", *(f"{n}{r}" for r in ranks for n in ("class", "probability"))])
            for part in views(
                source, pixels, range(len(source)), _BATCH, broken_share=broken_share
            ):
                chances = classifier(part.images)
                best = np.argsort(-chances, axis=1, kind="stable")[:, :top]
                for row, index in enumerate(part.indices.tolist()):
                    cells = [""] * (2 * top)
                    if part.sound[row]:
                        cells = [
                            cell
                            for column in best[row]
                            for cell in (classes[column], f"{chances[row, column]:.6f}")
                        ]
                        counts[best[row, 0]] += 1
                        if index in some and pictured is not None:
                            title = f"{cells[0]} {chances[row, best[row, 0]]:.0%}"
                            shown.append((part.images[row], title))
                    writer.writerow([source.name(index), *cells])
                broken += int((~part.sound).sum())
                progress.did(len(part.indices))
        if broken == len(source):
            raise BrokenRecord(none_is_sound(source))
        os.replace(making, path)
    finally:
        making.unlink(missing_ok=True)
    if pictured is not None and shown:
        images = np.stack([image for image, _ in shown])
        pictures = pixels.shown(images, like=images)
        predictions.sheet(pictures, [title for _, title in shown]).save(pictured)
    result = {"out": str(path), "images": len(source) - broken}
    if broken:
        result["broken"] = broken
    result["classes"] = {n: int(c) for n, c in zip(classes, counts, strict=True) if c}
    return result | ({"sheet": str(pictured)} if pictured is not None else {})


def _names(classifier) -> list[str]:
    outputs = len(classifier.weights.tensors["head.bias"])
    if classifier.classes:
        return list(classifier.classes)
    if outputs == 1000:
        say("the weights do not name their classes; 1000 of them are taken to be ImageNet-1K's")
        return imagenet_classes()
    say("the weights do not name their classes: they are numbered as in the head")
    return [str(number) for number in range(outputs)]


def _table_path(out) -> Path:
    path = Path(out).expanduser().absolute()
    if path.suffix != ".csv":
        raise UsageError(f"--out {str(out)!r} must end in .csv")
    if path.is_file():
        raise UsageError(f"--out {str(out)!r} is there already; give a new file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise UsageError(f"--out {str(out)!r} cannot be written; give the name of a new file")
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} cannot be written: {error.strerror}") from None
    return path

"""What a classifier is worth: on one held-out set, or on ImageNet's robustness sets."""

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax import config as config_lib
from mae_jax.data import sources
from mae_jax.data.progress import say
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.evaluation.measures import Tally
from mae_jax.evaluation.robustness import SETS, corruption_errors
from mae_jax.inference.views import pixels_for, views
from mae_jax.pixels import Pixels
from mae_jax.train.objectives import compute_dtype
from mae_jax.weights.described import Weights
from mae_jax.weights.load import PretrainedClassifier

_BATCH = 256  # images at a time, at most


def evaluate(weights: Weights, config, out: str | Path | None = None) -> dict[str, Any]:
    """Measures a classifier on `data.eval_split`, or on `data.split` where that is not set.

    Args:
      out: a folder for `evaluation.json` (measures, per class, calibration) and `confusion.csv`.

    Returns:
      Images and measures, how many were broken and left out, and where the files lie.

    Raises:
      UsageError: no classifier, no such data, other classes or pixels, or `out` cannot be written.
      BrokenRecord: more images cannot be read than `data.broken_share`.
    """
    config_lib.validate(config, trains=False)
    folder = _make(out)
    data = config.data
    source = sources.labelled(sources.open_source(data, data.eval_split or data.split))
    tally, broken = _tally(
        _classifier(weights, config), source, pixels_for(weights, config), data.broken_share
    )
    result = {"images": tally.images, "measures": tally.measures()}
    if broken:
        result["broken"] = broken
    if folder is not None:
        _write(folder / "evaluation.json", result | _details(tally, source.classes))
        with (folder / "confusion.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["true class / predicted", *source.classes])
            for name, row in zip(source.classes, tally.confusion, strict=True):
                writer.writerow([name, *row.tolist()])
    return result | {"out": folder and str(folder)}


def robustness(
    weights: Weights,
    config,
    names: Sequence[str],
    *,
    root: str | Path | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Measures a classifier of ImageNet on its robustness sets, each by its own metric.

    Args:
      names: of `evaluation.robustness.SETS`.
      root: where their folders lie, as their archives unpack; tfds by default.
      out: a folder for `robustness.json`, with the accuracy on every part.

    Raises:
      UsageError: an unknown set, or as `evaluate`.
      BrokenRecord: as `evaluate`.
    """
    for name in names:
        if name not in SETS:
            raise UsageError(f"robustness set {name!r} is unknown; known are {', '.join(SETS)}")
    config_lib.validate(config, trains=False)
    places = {name: [_open(part, config, root) for part in SETS[name].parts] for name in names}
    folder = _make(out)
    classifier, pixels = _classifier(weights, config), pixels_for(weights, config)
    images, found, parts = 0, {}, {}
    for name in names:
        kind, top1 = SETS[name], {}
        cut = dataclasses.replace(pixels, crop=kind.eval_crop or pixels.crop)
        for part, open_part in zip(kind.parts, places[name], strict=True):
            tally, _ = _tally(
                classifier, open_part(), cut, config.data.broken_share, kind.present_classes
            )
            top1[part.name] = tally.measures()["top1"]
            images += tally.images
            say(f"{part.name}  top1 {top1[part.name]:.4f}  {tally.images} images")
        parts[name] = top1
        if name == "imagenet_c":
            found["imagenet_c_mCE"] = corruption_errors(top1)["mCE"]
            parts["corruption_errors"] = corruption_errors(top1)
        else:
            found[f"{name}_top1"] = top1[name]
    result = {"images": images, "measures": found}
    if folder is not None:
        _write(folder / "robustness.json", result | {"parts": parts})
    return result | {"out": folder and str(folder)}


def _tally(
    classifier: PretrainedClassifier,
    source: sources.Source,
    pixels: Pixels,
    broken_share: float,
    present_classes: bool = False,
) -> tuple[Tally, int]:
    """Counts every image of a source once; also how many are broken, and not counted.

    Args:
      present_classes: whether predictions are among the classes that occur alone.
    """
    if not source.classes:
        raise UsageError(f"an evaluation {source.no_labels()}")
    columns, labels = columns_of(classifier.weights, source.classes), source.labels()
    chosen = np.unique(labels) if present_classes else slice(None)
    columns, place, broken = columns[chosen], np.full(len(source.classes), -1), 0
    place[chosen] = np.arange(len(columns))
    tally = Tally(len(columns))
    for some in views(source, pixels, range(len(source)), _BATCH, broken_share=broken_share):
        broken += int((~some.sound).sum())
        if some.sound.any():
            logits = classifier.logits(some.images)[some.sound]
            tally.add(logits[:, columns], place[some.labels[some.sound]])
    if not tally.images:
        raise BrokenRecord(f"none of {broken} images can be read, as said of each of them")
    return tally, broken


def columns_of(weights: Weights, classes: Sequence[str]) -> np.ndarray:
    """Which logit is whose: for every class of a data set, its place in the model's output.

    By name, where the weights know their classes' names, or have ImageNet's 1000 and the data set
    has its names; by order otherwise.

    Raises:
      UsageError: the model has no such class, or another number of them.
    """
    classes, outputs = list(classes), len(weights.tensors["head.bias"])
    if not classes:
        raise UsageError("an evaluation needs labelled data, and this has none")
    names = weights.classes
    if names is None and outputs == 1000 and len(classes) != 1000:
        names = imagenet_classes()
    if names is None or list(names) == classes:
        if outputs != len(classes):
            raise UsageError(
                f"the model tells {outputs} classes apart, and the data has {len(classes)}"
            )
        if names is None and outputs != 1000:
            say("the weights do not name their classes, which are taken in the order of the data's")
        return np.arange(outputs)
    index = {name: i for i, name in enumerate(names)}
    unknown = [name for name in classes if name not in index]
    if unknown:
        raise UsageError(
            f"the data has a class {unknown[0]!r} that the model does not; the model's first is "
            f"{names[0]!r}"
        )
    return np.array([index[name] for name in classes])


def imagenet_classes() -> list[str]:
    """WordNet's identifiers of ImageNet-1K's classes, in the order of every published model."""
    from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

    return imagenet_common.label_names_file().read_text().split()


def _open(part, config, root):
    """How to open a part; a folder that is missing is found out about before anything runs."""
    if root is None:
        return lambda: sources.TfdsSource(part.data_set, part.split, config.data.dir)
    folder = part.folder(Path(root))
    return lambda: sources.FolderSource(str(folder), "all")


def _classifier(weights, config):
    dtype = compute_dtype(config.model.dtype)
    return PretrainedClassifier(
        weights, dtype=dtype, batch_size=min(config.data.batch_size, _BATCH)
    )


def _details(tally, classes):
    images = tally.confusion.sum(1).tolist()
    shares = [None if np.isnan(share) else share for share in tally.per_class().tolist()]
    return {
        "per_class": [
            {"class": name, "images": count, "accuracy": share}
            for name, count, share in zip(classes, images, shares, strict=True)
        ],
        "calibration": tally.calibration(),
    }


def _make(out):
    if out is None:
        return None
    folder = Path(out).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} cannot be written: {error.strerror}") from None
    return folder


def _write(path, content):
    path.write_text(json.dumps(content, indent=1) + "\n")

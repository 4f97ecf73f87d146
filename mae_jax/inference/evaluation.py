"""What a classifier is worth: on one held-out set, or on ImageNet's robustness sets."""

import csv
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from mae_jax import config as config_lib
from mae_jax.data import loader, sources
from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.evaluate.measures import Tally
from mae_jax.evaluate.robustness import SETS, corruption_errors
from mae_jax.parallel import Layout, Split
from mae_jax.train.objectives import compute_dtype
from mae_jax.weights import load, model
from mae_jax.weights.described import Weights


class Evaluator:
    """A classifier on all devices of this process.

    Args:
      weights: of a classifier, for images of the size it will get.
      dtype: of the computation.
      batch_size: images at a time, rounded up to whole ones per device.

    Raises:
      UsageError: the weights are no classifier's.
    """

    def __init__(self, weights: Weights, *, dtype: Any, batch_size: int):
        if weights.kind != "classifier":
            raise UsageError(
                f"{weights.origin.get('source')!r} holds no classifier; evaluate takes what "
                "finetune or probe trained"
            )
        devices = jax.local_devices()
        self.layout = Layout.of(Split(data=len(devices)), devices)
        self.batch_size = -(-batch_size // len(devices)) * len(devices)
        self.weights = weights
        self._graphdef, state = nnx.split(model.build(weights, dtype=dtype, scan=True))
        self._state = jax.device_put(state, self.layout.replicated)

    def tally(self, source: sources.Source, eval_crop: float, present_classes: bool) -> Tally:
        """Counts every image of a source once.

        Args:
          eval_crop: the centre crop, as a share of the shorter side.
          present_classes: whether predictions are among the classes that occur alone.

        Raises:
          UsageError: the classes are not the model's.
          BrokenRecord: an image cannot be read.
        """
        columns = columns_of(self.weights, source.classes)
        if present_classes:
            columns = columns[np.unique(source.labels())]
        place = np.full(len(source.classes), -1)
        place[np.unique(source.labels()) if present_classes else slice(None)] = np.arange(
            len(columns)
        )
        d = self.weights.dimensions
        picture = loader.Picture(
            d.image_size, d.channels, crop_scale=(1, 1), crop_ratio=(1, 1), flip=False,
            eval_crop=eval_crop,
        )  # fmt: skip
        tally = Tally(len(columns))
        for batch in loader.plain_batches(source, picture, self.batch_size):
            real = batch["weight"] > 0
            logits = self._logits(batch["image"])[real]
            tally.add(logits[:, columns], place[batch["label"][real]])
        return tally

    def _logits(self, images: np.ndarray) -> np.ndarray:
        on_device = self.layout.put_batch({"image": images}, self.batch_size)["image"]
        return np.asarray(
            _logits(self._graphdef, self._state, on_device, self.weights.mean, self.weights.std)
        )


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _logits(graphdef, state, images, mean, std):
    return nnx.merge(graphdef, state)(load.standardise(images, mean, std))


def columns_of(weights: Weights, classes: Sequence[str]) -> np.ndarray:
    """Which logit is whose: for every class of a data set, its place in the model's output.

    By name, where the weights know their classes' names, or have ImageNet's 1000 and the data set
    has its names; by order otherwise.

    Raises:
      UsageError: the model has no such class, or another number of them.
    """
    outputs = len(weights.tensors["head.bias"])
    if not classes:
        raise UsageError("an evaluation needs labelled data, and this has none")
    names = weights.origin.get("classes")
    if names is None and outputs == 1000 and len(classes) != 1000:
        names = _imagenet_classes()
    if names is None or list(names) == list(classes):
        if outputs != len(classes):
            raise UsageError(
                f"the model tells {outputs} classes apart, and the data has {len(classes)}"
            )
        return np.arange(outputs)
    index = {name: i for i, name in enumerate(names)}
    unknown = [name for name in classes if name not in index]
    if unknown:
        raise UsageError(
            f"the data has a class {unknown[0]!r} that the model does not; the model's first is "
            f"{names[0]!r}"
        )
    return np.array([index[name] for name in classes])


def _imagenet_classes() -> list[str]:
    """WordNet's identifiers of ImageNet-1K's classes, in the order of every published model."""
    from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

    return imagenet_common.label_names_file().read_text().split()


def evaluate(weights: Weights, config, out: str | Path | None = None) -> dict[str, Any]:
    """Measures a classifier on `data.eval_split`, or on `data.split` where that is not set.

    Args:
      out: a folder for `evaluation.json` (measures, per class, calibration) and `confusion.csv`.

    Returns:
      Images and measures, and where the files lie.

    Raises:
      UsageError: no classifier, no such data, other classes, or `out` cannot be written.
      BrokenRecord: an image cannot be read.
    """
    config_lib.validate(config, trains=False)
    folder = _make(out)
    data = config.data
    source = sources.open_source(data, data.eval_split or data.split)
    tally = _evaluator(weights, config).tally(source, data.eval_crop, present_classes=False)
    result = {"images": tally.images, "measures": tally.measures()}
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
      names: of `evaluate.robustness.SETS`.
      root: where their folders lie, as their archives unpack; tfds by default.
      out: a folder for `robustness.json`, with the accuracy on every part.

    Raises:
      UsageError: an unknown set, or as `evaluate`.
      BrokenRecord: an image cannot be read.
    """
    for name in names:
        if name not in SETS:
            raise UsageError(f"robustness set {name!r} is unknown; known are {', '.join(SETS)}")
    config_lib.validate(config, trains=False)
    places = {name: [_open(part, config, root) for part in SETS[name].parts] for name in names}
    folder = _make(out)
    evaluator = _evaluator(weights, config)
    images, found, parts = 0, {}, {}
    for name in names:
        kind, top1 = SETS[name], {}
        for part, open_part in zip(kind.parts, places[name], strict=True):
            source = open_part()
            crop = kind.eval_crop or config.data.eval_crop
            tally = evaluator.tally(source, crop, kind.present_classes)
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


def _open(part, config, root):
    """How to open a part; a folder that is missing is found out about before anything runs."""
    if root is None:
        return lambda: sources.TfdsSource(part.data_set, part.split, config.data.dir)
    folder = part.folder(Path(root))
    return lambda: sources.FolderSource(str(folder), "all")


def _evaluator(weights, config):
    dtype = compute_dtype(config.model.dtype)
    return Evaluator(weights, dtype=dtype, batch_size=min(config.data.batch_size, 1024))


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
    folder = Path(out).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} cannot be written: {error.strerror}") from None
    return folder


def _write(path, content):
    path.write_text(json.dumps(content, indent=1) + "\n")

"""Fine-tuning on several draws of a few labels, beside what it must beat."""

import importlib.util
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data import loader, sources
from mae_jax.errors import UsageError
from mae_jax.train import loop, metrics
from mae_jax.weights import start


def compare(config, folder: str | Path, *, draws: int, baselines: bool) -> dict[str, Any]:
    """Fine-tunes on `draws` draws of the labels and reports accuracy on held-out images.

    Args:
      config: of the fine-tuning; `data.labels_per_class` and `data.eval_split` must be set, and
        draw d of run r has the work folder `folder/r-d`.
      folder: gets a work folder for every run, and `comparison.json`.
      draws: how many, numbered from `data.label_draw`.
      baselines: also train the same network from scratch, and logistic regression on pixels.

    Returns:
      For every method its accuracies, their mean and their standard deviation.

    Raises:
      UsageError: the config names no few labels or no held-out images, besides what `loop.run`
        raises.
    """
    if config.data.labels_per_class is None or config.data.eval_split is None:
        raise UsageError(
            "several draws need data.labels_per_class "
            f"(now {config.data.labels_per_class}) and data.eval_split (now "
            f"{config.data.eval_split})"
        )
    if draws < 2:
        raise UsageError(f"draws {draws} must be at least 2")
    if baselines and importlib.util.find_spec("sklearn") is None:
        raise UsageError("--baselines needs scikit-learn; pip install 'mae_jax[digits]'")
    methods = {"pretrained": config.init_from} if config.init_from else {"scratch": None}
    if baselines:
        methods["scratch"] = None
    accuracies: dict[str, list[float]] = {}
    for draw in range(config.data.label_draw, config.data.label_draw + draws):
        one = config.copy_and_resolve_references()
        one.data.label_draw = draw
        for method, source in methods.items():
            one.init_from = source
            summary = loop.run(
                one,
                Path(folder) / f"{method}-{draw}",
                quiet=True,
                read_weights=start.read_encoder,
            )
            accuracies.setdefault(method, []).append(summary["measures"]["eval_accuracy"])
        if baselines:
            accuracies.setdefault("pixels", []).append(_logistic_regression(one))
        latest = ", ".join(f"{name} {values[-1]:.1%}" for name, values in accuracies.items())
        metrics.say(f"draw {draw}: {latest}")
    result = {
        name: {
            "mean": statistics.mean(values),
            "deviation": statistics.stdev(values),
            "accuracies": values,
        }
        for name, values in accuracies.items()
    }
    path = Path(folder).absolute() / "comparison.json"
    path.write_text(json.dumps(result, indent=1))
    return {"accuracy": result, "comparison": str(path)}


def _logistic_regression(config) -> float:
    from sklearn.linear_model import LogisticRegression

    train = sources.few_labels(
        sources.open_source(config.data, config.data.split),
        config.data.labels_per_class,
        config.data.label_draw,
    )
    held_out = sources.open_source(config.data, config.data.eval_split, train.classes)
    picture = loader.Picture.from_config(config)
    pixels, labels = _pixels(train, picture)
    model = LogisticRegression(max_iter=1000).fit(pixels, labels)
    return float(model.score(*_pixels(held_out, picture)))


def _pixels(source, picture):
    batch = next(loader.plain_batches(source, picture, len(source)))
    return batch["image"].reshape(len(source), -1) / np.float32(255), batch["label"]


def table(result: dict[str, Any]) -> str:
    """The accuracies of a comparison as lines of text."""
    titles = {
        "pretrained": "from the pre-trained encoder",
        "scratch": "the same network from scratch",
        "pixels": "logistic regression on pixels",
    }
    return "\n".join(
        f"{titles[name]:32s} {100 * row['mean']:5.1f} ± {100 * row['deviation']:.1f} %"
        for name, row in result.items()
    )

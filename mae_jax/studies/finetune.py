"""Fine-tuning over label counts, trained blocks and draws, beside what it must beat."""

import importlib.util
import itertools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data import few, loader, sources
from mae_jax.errors import UsageError
from mae_jax.train import loop, metrics
from mae_jax.visualize import curves
from mae_jax.weights import start

ALL = "all"


def run(config, folder: str | Path, *, quiet: bool = False) -> dict[str, Any]:
    """One run of a classifier or a linear probe, from what `init_from` names or from scratch.

    Raises:
      UsageError: as `weights.start.adopt` and `train.loop.run`; the rest of the latter, too.
    """
    start.adopt(config, folder)
    return loop.run(config, folder, quiet=quiet, read_weights=start.read_encoder)


def compare(
    config,
    folder: str | Path,
    *,
    draws: int = 1,
    labels: Sequence[int | str] = (),
    blocks: Sequence[float] = (),
    baselines: bool = False,
    scratch: Any = None,
) -> dict[str, Any]:
    """Fine-tunes for every setting and draw, and reports accuracy on held-out images.

    A draw is of the labels; where all labels are used, of the seed instead.

    Args:
      config: of the fine-tuning; `data.eval_split` must be set.
      folder: gets a work folder for every run, `comparison.json`, and a plot.
      draws: how many, numbered from `data.label_draw`.
      labels: per class, or "all"; none of them is what the config says.
      blocks: settings of `train.trained_blocks`; none is what the config says.
      baselines: also train the same network from scratch, and logistic regression on pixels.
      scratch: config of the run from scratch; that of the fine-tuning by default.

    Returns:
      For every setting its accuracies, their mean and their standard deviation.

    Raises:
      UsageError: the config names no held-out images, besides what `run` raises.
    """
    _check(config, draws, labels, blocks, baselines)
    rows: dict[tuple, dict[str, Any]] = {}
    first = config.data.label_draw
    grid = itertools.product(labels or [None], blocks or [None], range(first, first + draws))
    for count, trained, draw in grid:
        for method in _methods(config, baselines, trained):
            one = scratch if method == "scratch" and scratch is not None else config
            one = _setting(one, config, count, trained, draw, method)
            if method == "pixels":
                accuracy = _logistic_regression(one)
            else:
                name = [method]
                name += [] if count is None else [f"labels{count}"]
                name += [] if trained is None else [f"blocks{trained:g}"]
                where = Path(folder) / "-".join([*name, str(draw)])
                accuracy = accuracy_of(run(one, where, quiet=True))
            row = {"method": method, "labels": count, "blocks": trained, "accuracies": []}
            rows.setdefault((method, count, trained), row)["accuracies"].append(accuracy)
        latest = ", ".join(
            f"{method} {row['accuracies'][-1]:.1%}"
            for (method, *setting), row in rows.items()
            if setting == [count, trained]
        )
        metrics.say(f"{_title(count, trained)}draw {draw}: {latest}")
    found = list(rows.values())
    for row in found:
        row["mean"] = statistics.mean(row["accuracies"])
        row["deviation"] = statistics.stdev(row["accuracies"]) if draws > 1 else None
    path = Path(folder).absolute() / "comparison.json"
    path.write_text(json.dumps(found, indent=1))
    plot = curves.draw(found, path.with_name("comparison.png")) if labels or blocks else None
    return {"accuracy": found, "comparison": str(path), "plot": plot and str(plot)}


def accuracy_of(summary: dict[str, Any]) -> float:
    """A run's accuracy on held-out images: of the moving average, where it keeps one."""
    measures = summary["measures"]
    return measures.get("eval_ema_accuracy", measures["eval_accuracy"])


def _check(config, draws, labels, blocks, baselines):
    if config.data.eval_split is None:
        raise UsageError("a comparison needs data.eval_split, and it is not set")
    if draws < 1:
        raise UsageError(f"--draws={draws} must be at least 1")
    if baselines and importlib.util.find_spec("sklearn") is None:
        raise UsageError("--baselines needs scikit-learn; pip install 'mae_jax[digits]'")
    if blocks and config.init_from is None:
        raise UsageError("--blocks needs --config.init_from: a frozen encoder must know something")
    for count in labels:
        if count != ALL and (not isinstance(count, int) or count < 1):
            raise UsageError(f"--labels={count} must be at least 1, or {ALL}")


def _methods(config, baselines, trained):
    if trained is not None:  # what comes from scratch has no use for frozen blocks
        return ["pretrained"]
    methods = ["pretrained"] if config.init_from else ["scratch"]
    return methods + [m for m in ("scratch", "pixels") if baselines and m not in methods]


def _setting(one, config, count, trained, draw, method):
    one = one.copy_and_resolve_references()
    one.data.label_draw = draw
    if method == "scratch":
        one.init_from = None
        for name in ("name", "folder", "dir", "split", "eval_split"):
            one.data[name] = config.data[name]
    if count is not None:
        one.data.labels_per_class = None if count == ALL else count
        one.data.labels_share = None
    elif one is not config:
        one.data.labels_per_class = config.data.labels_per_class
        one.data.labels_share = config.data.labels_share
    if one.data.labels_per_class is None and one.data.labels_share is None:
        one.seed = config.seed + draw
    if trained is not None:
        one.train.trained_blocks = float(trained)
    return one


def _logistic_regression(config) -> float:
    from sklearn.linear_model import LogisticRegression

    train = few.few_labels(sources.open_source(config.data, config.data.split), config.data)
    held_out = sources.open_source(config.data, config.data.eval_split, train.classes)
    picture = loader.Picture.from_config(config)
    pixels, labels = _pixels(train, picture)
    model = LogisticRegression(max_iter=1000).fit(pixels, labels)
    return float(model.score(*_pixels(held_out, picture)))


def _pixels(source, picture):
    batch = next(loader.plain_batches(source, picture, len(source)))
    return batch["image"].reshape(len(source), -1) / np.float32(255), batch["label"]


def _title(count, trained):
    title = "" if count is None else f"{count} labels, "
    return title + ("" if trained is None else f"{trained:g} blocks, ")


TITLES = {
    "pretrained": "from the pre-trained encoder",
    "scratch": "the same network from scratch",
    "pixels": "logistic regression on pixels",
}


def table(rows: list[dict[str, Any]]) -> str:
    """The accuracies of a comparison as lines of text."""
    lines = []
    for row in rows:
        parts = [f"{TITLES[row['method']]:30s}"]
        if any(other["labels"] is not None for other in rows):
            parts.append(f"{row['labels'] or '':>5} labels")
        if any(other["blocks"] is not None for other in rows):
            parts.append("" if row["blocks"] is None else f"{row['blocks']:4g} blocks")
        spread = "" if row["deviation"] is None else f" ± {100 * row['deviation']:.1f}"
        lines.append("  ".join([*parts, f"{100 * row['mean']:5.1f}{spread} %"]))
    return "\n".join(lines)

"""Frozen encoders side by side: the same data, the same probes, one table."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax import config as config_lib
from mae_jax.data import few, sources
from mae_jax.errors import UsageError
from mae_jax.evaluate import knn, logistic
from mae_jax.inference import embed
from mae_jax.inference.views import pixels_for
from mae_jax.studies import finetune
from mae_jax.train import metrics
from mae_jax.visualize import curves
from mae_jax.weights import load
from mae_jax.weights.read import read

METHODS = ("logistic", "knn", "knn_centred", "linear")
_TITLES = {
    "logistic": "logistic",
    "knn": "kNN",
    "knn_centred": "kNN, centred",
    "linear": "linear (LARS)",
}


def compare(
    encoders: Sequence[str],
    config,
    out: str | Path,
    *,
    methods: Sequence[str] = ("logistic", "knn"),
    output: str | None = None,
    draws: int = 1,
    heads: int | None = None,
) -> dict[str, Any]:
    """Puts every encoder through the same probes, on the same images.

    Features are computed once and kept in `out/features`; the same call again goes on.

    Args:
      encoders: any SOURCEs.
      config: names the data, its size and few labels (`data`, `model.image_size`), k and
        temperature (`log.knn_*`), and the recipe of the linear probe (objective "probe").
      out: a folder, which gets `comparison.json`, `comparison.md` and a plot.
      methods: "logistic" on features, over a grid of L2; "knn" on features, as published;
        "knn_centred", the same after their mean was taken off; "linear", the published linear
        probe with augmentation, trained in `out/linear`.
      output: the features: "token" or "mean"; by default the class token, where there is one.
      draws: of few labels.
      heads: of those encoders that do not say it, and whose width does not settle it.

    Returns:
      A row per encoder.

    Raises:
      UsageError: an unknown method, no held-out images, no labels, or what reading and training
        say.
    """
    config_lib.validate(config, trains="linear" in methods)
    _check(encoders, config, methods, draws)
    folder = Path(out).absolute()
    data = config.data
    train = sources.open_source(data, data.split)
    held_out = sources.open_source(data, data.eval_split, train.classes)
    few.few_labels(train, data)  # too many labels asked for is found out about here
    rows = []
    for name, encoder_source in zip(_names(encoders), encoders, strict=True):
        metrics.say(f"{name}: {encoder_source}")
        rows.append(
            _probe(
                name, encoder_source, config, folder, methods, output, draws, heads, train, held_out
            )
        )
        (folder / "comparison.json").write_text(json.dumps(rows, indent=1) + "\n")
    (folder / "comparison.md").write_text(markdown(rows) + "\n")
    plot = curves.bars(
        [row["encoder"] for row in rows],
        {_TITLES[m]: [row[m]["mean"] for row in rows] for m in METHODS if m in methods},
        folder / "comparison.png",
    )
    return {
        "encoders": rows,
        "comparison": str(folder / "comparison.md"),
        "plot": str(plot) if plot else curves.HOW,
    }


def _probe(name, encoder_source, config, folder, methods, output, draws, heads, train, held_out):
    weights = read(
        encoder_source,
        part="encoder",
        heads=heads,
        image_size=_sides(config.model.image_size),
    ).resized(_sides(config.model.image_size))
    encoder = load.PretrainedEncoder(weights)
    output = output or ("token" if weights.class_token else "mean")
    row = {
        "encoder": name,
        "source": str(encoder_source),
        "parameters": sum(tensor.size for tensor in weights.tensors.values()),
        "width": weights.dimensions.width,
        "patch_size": list(weights.dimensions.patch_size),
        "output": output,
    }
    if set(methods) - {"linear"}:
        features = []
        for split, records in (("train", train), ("held-out", held_out)):
            path = folder / "features" / f"{name}-{split}-{output}.npz"
            embed.embed(
                encoder,
                records,
                path,
                output=output,
                pixels=pixels_for(weights, config),
                broken_share=config.data.broken_share,
            )
            with np.load(path) as file:
                features += [file["features"], file["labels"]]
        for method in methods:
            if method != "linear":
                row[method] = _spread(_on_features(method, features, config, draws, train.classes))
    if "linear" in methods:
        row["linear"] = _spread(_linear(name, encoder_source, config, folder, draws, heads))
    return row


def _on_features(method, features, config, draws, classes) -> list[dict[str, float]]:
    bank, bank_labels, queries, query_labels = features
    data, found = config.data, []
    for number in range(data.label_draw, data.label_draw + draws):
        chosen = np.arange(len(bank))
        if data.labels_per_class is not None or data.labels_share is not None:
            chosen = few.draw(
                bank_labels, classes, per_class=data.labels_per_class, share=data.labels_share,
                number=number,
            )  # fmt: skip
        some = (bank[chosen], bank_labels[chosen], queries, query_labels)
        if method != "logistic":
            accuracy = knn.accuracy(
                *some,
                classes=len(classes),
                k=config.log.knn_neighbours,
                temperature=config.log.knn_temperature,
                centred=method == "knn_centred",
            )
            found.append({"accuracy": accuracy})
        else:
            fit = logistic.fit(*some)
            found.append({"accuracy": fit.accuracy, "inverse_l2": fit.inverse_l2})
    return found


def _linear(name, encoder_source, config, folder, draws, heads) -> list[dict[str, float]]:
    found = []
    for number in range(config.data.label_draw, config.data.label_draw + draws):
        one = config.copy_and_resolve_references()
        one.init_from, one.data.label_draw = str(encoder_source), number
        one.model.heads = heads
        if one.data.labels_per_class is None and one.data.labels_share is None:
            one.seed = config.seed + number
        summary = finetune.run(one, folder / "linear" / f"{name}-{number}", quiet=True)
        found.append({"accuracy": finetune.accuracy_of(summary)})
    return found


def _spread(found):
    values = [one["accuracy"] for one in found]
    spread = {
        "mean": statistics.mean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "accuracies": values,
    }
    if "inverse_l2" in found[0]:
        spread["inverse_l2"] = [one["inverse_l2"] for one in found]
    return spread


def _check(encoders, config, methods, draws):
    if not encoders:
        raise UsageError("SOURCE is missing; probe compares one encoder or more")
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"method {method!r} is unknown; known are {', '.join(METHODS)}")
    if "logistic" in methods:
        logistic.check()
    if "linear" in methods and config.train.objective != "probe":
        raise UsageError(
            f"method 'linear' needs train.objective 'probe', and it is {config.train.objective!r}"
        )
    if config.data.eval_split is None:
        raise UsageError("a probe needs data.eval_split, and it is not set")
    if draws < 1:
        raise UsageError(f"--draws={draws} must be at least 1")


def _names(encoders):
    """The last part of every path; numbered where two are alike."""
    stems = [Path(source).absolute().name for source in encoders]
    return [
        stem if stems.count(stem) == 1 else f"{stem}-{stems[: i + 1].count(stem)}"
        for i, stem in enumerate(stems)
    ]


def _sides(image_size):
    sides = tuple(image_size)
    return sides if len(sides) > 1 else sides[0]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The comparison as a table."""
    methods = [method for method in METHODS if method in rows[0]]
    lines = [
        " | ".join(["| encoder", "parameters", "features", *(_TITLES[m] for m in methods)]) + " |",
        "|---|---|---|" + "---|" * len(methods),
    ]
    for row in rows:
        cells = [f"| {row['encoder']}", f"{row['parameters'] / 1e6:.2f} M"]
        cells.append(f"{row['output']}, {row['width']}")
        for method in methods:
            spread = row[method]["deviation"]
            text = f"{100 * row[method]['mean']:.1f}"
            cells.append(text + ("" if spread is None else f" ± {100 * spread:.1f}") + " %")
        lines.append(" | ".join(cells) + " |")
    return "\n".join(lines)

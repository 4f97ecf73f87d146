"""Frozen encoders side by side: the same data, the same probes, one table."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mae_jax import config as config_lib
from mae_jax.config import named
from mae_jax.data import few, sources
from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.evaluation import logistic
from mae_jax.studies import frozen, study
from mae_jax.studies.remaining import Work, share_left
from mae_jax.visualize import curves

_TITLES = {
    "logistic": "logistic",
    "logistic_whitened": "logistic, whitened",
    "knn": "kNN",
    "knn_centred": "kNN, centred",
    "knn_standardised": "kNN, standardised",
    "knn_whitened": "kNN, whitened",
    "attentive": "attentive",
    "linear": "linear (LARS)",
}
METHODS = tuple(_TITLES)


def compare(
    encoders: Sequence[str],
    config,
    out: str | Path,
    *,
    methods: Sequence[str] = ("logistic", "knn"),
    output: str | None = None,
    draws: int = 1,
    heads: int | None = None,
    layers: Sequence[int] | None = None,
    whiten: bool = False,
    standardise: bool = False,
    queries: int | None = None,
) -> dict[str, Any]:
    """Puts every encoder through the same probes, on the same images.

    Features are computed once and kept in `out/features`; the same call again goes on.

    Args:
      encoders: any SOURCEs.
      config: names the data and few labels (`data`), the images' size (`model.image_size`; unset,
        every encoder gets that which it was trained with), k and temperature (`log.knn_*`), and
        the recipe of the linear probe (objective "probe").
      out: a folder, which gets what `studies.study` writes.
      methods: "logistic" on features, over a grid of L2; "knn" on features, as published;
        "knn_centred", the same after their mean was taken off; "knn_standardised", "knn_whitened"
        and "logistic_whitened", after a map that is fitted on all training images, whether their
        labels are used or not; "attentive", on patch tokens, as of `evaluation.attentive`;
        "linear", the published linear probe with augmentation, trained in `out/linear`.
      output: the features: "token" or "mean"; by default the class token, where there is one.
      draws: of few labels.
      heads: of those encoders that do not say it, and whose width does not settle it.
      layers: numbers of blocks, from 1: a row for each. "linear" reads the last block alone.
      whiten: also "knn_whitened" for "knn", and "logistic_whitened" for "logistic".
      standardise: also "knn_standardised" for "knn"; "logistic" standardises anyway.
      queries: of "attentive"; by default as of `models.attentive.queries_for`.

    Returns:
      A row per encoder, and layer, with a column per method, as of `study.run`; where table and
      plot lie.

    Raises:
      UsageError: an unknown method, no held-out images, no labels, no such layer, or what reading
        and training say.
      Diverged: every probe did.
    """
    methods = _with_maps(methods, whiten, standardise)
    config_lib.validate(config, trains="linear" in methods)
    _check(encoders, config, methods, draws)
    data = config.data
    train = sources.labelled(sources.open_source(data, data.split))
    held_out = sources.labelled(sources.open_source(data, data.eval_split, train.classes))
    few.few_labels(train, data)  # too many labels asked for is found out about here
    layers = None if layers is None else tuple(layers)
    folder = Path(out).absolute() / "features"
    task = frozen.Task(config, train, held_out, folder, output, heads, layers, queries)
    for source in encoders if layers is not None or queries is not None else ():
        task.check(source, methods)
    numbers = range(data.label_draw, data.label_draw + draws)
    work = [
        Work(method, share_left(Path(out) / _trial_name(method, name, draw, layer)))
        for name, layer, method, draw in _order(_names(encoders), methods, numbers, layers)
    ]
    rows = study.run(_trials(task, encoders, methods, numbers), len(work), out, work)
    plot = _bars if layers is None else _lines
    return {
        "encoders": rows,
        "plot": study.save(out, markdown(rows), functools.partial(plot, rows)),
        "comparison": str(Path(out).absolute() / study.MARKDOWN),
    }


def _order(names, methods, draws, layers) -> Iterator[tuple[Any, ...]]:
    """Name, layer, method and draw of every trial; a linear probe reads the last layer alone."""
    for name, layer in itertools.product(names, layers or (None,)):
        for method, draw in itertools.product(methods, draws):
            if method != "linear" or layer is None or layer == max(layers):
                yield name, layer, method, draw


def _trials(task, encoders, methods, draws) -> Iterator[study.Trial]:
    for name, source in zip(_names(encoders), encoders, strict=True):
        say(f"{name}: {source}")
        encoder = frozen.Encoder(task, name, source)
        for layer in task.layers or (None,):
            probed = frozen.Layer(encoder, layer)
            for method, draw in itertools.product(methods, draws):
                if method == "linear" and not probed.last:
                    continue
                yield study.Trial(
                    probed.row,
                    draw,
                    _trial_name(method, name, draw, layer),
                    functools.partial(getattr(probed, method), draw),
                    column=method,
                )


def _with_maps(methods, whiten, standardise) -> list[str]:
    """The methods, and those that the two switches ask for beside them."""
    more = {"whitened": ("logistic", "knn") if whiten else (), "standardised": ("knn",)}
    more["standardised"] = more["standardised"] if standardise else ()
    made = list(methods)
    for kind, those in more.items():
        added = [f"{method}_{kind}" for method in those if method in methods]
        if those and not added:
            raise UsageError(
                f"--{'whiten' if kind == 'whitened' else 'standardise'} adds to the methods "
                f"{' and '.join(those)}, and of these --methods={','.join(methods)} has none"
            )
        made += [method for method in added if method not in made]
    return made


def _trial_name(method, name, draw, layer) -> str:
    return f"{method}/{name}-{draw}" + ("" if layer is None else f"-{layer}")


def _check(encoders, config, methods, draws):
    if not encoders:
        raise UsageError("SOURCE is missing; probe compares one encoder or more")
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"method {method!r} is unknown; known are {', '.join(METHODS)}")
    if {"logistic", "logistic_whitened"} & set(methods):
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
    """The last part of every path or name; numbered where two are alike."""
    stems = [
        Path(named.parse(source).repository if named.is_name(source) else source).absolute().name
        for source in encoders
    ]
    return [
        stem if stems.count(stem) == 1 else f"{stem}-{stems[: i + 1].count(stem)}"
        for i, stem in enumerate(stems)
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The comparison as a table."""
    methods = [method for method in METHODS if any(method in row for row in rows)]
    layers = ["layer"] if any("layer" in row for row in rows) else []
    return study.markdown(
        ["encoder", *layers, "parameters", "features", *(_TITLES[method] for method in methods)],
        [
            [
                row["encoder"],
                *(str(row[name]) for name in layers),
                f"{row['parameters'] / 1e6:.2f} M",
                f"{row['output']}, {row['width']}",
                *(study.percent(row[method]) if method in row else "" for method in methods),
            ]
            for row in rows
        ],
    )


def _bars(rows, path):
    methods = [method for method in METHODS if method in rows[0]]
    values = {_TITLES[method]: [row[method]["mean"] for row in rows] for method in methods}
    return curves.bars([row["encoder"] for row in rows], values, path)


def _lines(rows, path):
    alone = len({row["encoder"] for row in rows}) == 1
    return curves.draw(
        [
            {
                "method": _TITLES[method] if alone else f"{row['encoder']}, {_TITLES[method]}",
                "layer": row["layer"],
                "mean": row[method]["mean"],
                "deviation": row[method]["deviation"],
            }
            for method in METHODS
            for row in rows
            if method in row
        ],
        path,
    )

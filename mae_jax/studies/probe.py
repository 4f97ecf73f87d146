"""Frozen encoders side by side: the same data, the same probes, one table."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax import config as config_lib
from mae_jax.config import named
from mae_jax.data import few, sources
from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.evaluation import knn, logistic
from mae_jax.inference import embed
from mae_jax.inference.views import pixels_for
from mae_jax.studies import finetune, study
from mae_jax.studies.remaining import Work, share_left
from mae_jax.visualize import curves
from mae_jax.weights import adapt, load
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
      config: names the data and few labels (`data`), the images' size (`model.image_size`; unset,
        every encoder gets that which it was trained with), k and temperature (`log.knn_*`), and
        the recipe of the linear probe (objective "probe").
      out: a folder, which gets what `studies.study` writes.
      methods: "logistic" on features, over a grid of L2; "knn" on features, as published;
        "knn_centred", the same after their mean was taken off; "linear", the published linear
        probe with augmentation, trained in `out/linear`.
      output: the features: "token" or "mean"; by default the class token, where there is one.
      draws: of few labels.
      heads: of those encoders that do not say it, and whose width does not settle it.

    Returns:
      A row per encoder, with a column per method, as of `study.run`; where table and plot lie.

    Raises:
      UsageError: an unknown method, no held-out images, no labels, or what reading and training
        say.
      Diverged: every probe did.
    """
    config_lib.validate(config, trains="linear" in methods)
    _check(encoders, config, methods, draws)
    data = config.data
    train = sources.labelled(sources.open_source(data, data.split))
    held_out = sources.labelled(sources.open_source(data, data.eval_split, train.classes))
    few.few_labels(train, data)  # too many labels asked for is found out about here
    task = _Task(config, train, held_out, Path(out).absolute() / "features", output, heads)
    numbers = range(data.label_draw, data.label_draw + draws)
    work = [
        Work(method, share_left(Path(out) / _trial_name(method, name, draw)))
        for name, method, draw in itertools.product(_names(encoders), methods, numbers)
    ]
    rows = study.run(_trials(task, encoders, methods, numbers), len(work), out, work)
    plot = functools.partial(
        curves.bars,
        [row["encoder"] for row in rows],
        {_TITLES[m]: [row[m]["mean"] for row in rows] for m in METHODS if m in methods},
    )
    return {
        "encoders": rows,
        "plot": study.save(out, markdown(rows), plot),
        "comparison": str(Path(out).absolute() / study.MARKDOWN),
    }


@dataclasses.dataclass(frozen=True)
class _Task:
    """What every encoder is put through.

    Attributes:
      config: of data and probes.
      train, held_out: the records.
      folder: for features.
      output: the features, or None for what each encoder has.
      heads: of encoders that do not say it.
    """

    config: Any
    train: sources.Source
    held_out: sources.Source
    folder: Path
    output: str | None
    heads: int | None


class _Frozen:
    """One encoder, and the probes of it; each takes the number of a draw and a work folder."""

    def __init__(self, task: _Task, name: str, source: str):
        sides = task.config.model.image_size  # None: what the encoder was trained with
        size = sides[0] if sides is not None and len(sides) == 1 else sides
        weights = read(source, part="encoder", heads=task.heads, image_size=size)
        weights = adapt.fitted(weights, size)
        # Of a name, which may be another's tomorrow, the commit that was read.
        source = weights.origin["source"] if named.is_name(source) else str(source)
        self._task, self._name, self._source, self._weights = task, name, source, weights
        self._output = task.output or ("token" if weights.class_token else "mean")
        self.row = {
            "encoder": name,
            "source": source,
            "parameters": sum(tensor.size for tensor in weights.tensors.values()),
            "width": weights.dimensions.width,
            "patch_size": list(weights.dimensions.patch_size),
            "output": self._output,
        }

    def logistic(self, draw: int, folder: Path) -> dict[str, float]:
        fit = logistic.fit(*self._drawn(draw))
        return {"accuracy": fit.accuracy, "inverse_l2": fit.inverse_l2}

    def knn(self, draw: int, folder: Path, centred: bool = False) -> dict[str, float]:
        log = self._task.config.log
        accuracy = knn.accuracy(
            *self._drawn(draw),
            classes=len(self._task.train.classes),
            k=log.knn_neighbours,
            temperature=log.knn_temperature,
            centred=centred,
        )
        return {"accuracy": accuracy}

    def knn_centred(self, draw: int, folder: Path) -> dict[str, float]:
        return self.knn(draw, folder, centred=True)

    def linear(self, draw: int, folder: Path) -> dict[str, float]:
        config = self._task.config.copy_and_resolve_references()
        config.init_from, config.data.label_draw = self._source, draw
        config.model.heads = self._task.heads
        if config.data.labels_per_class is None and config.data.labels_share is None:
            config.seed += draw
        return {"accuracy": finetune.accuracy_of(finetune.run(config, folder, quiet=True))}

    def _drawn(self, draw):
        """Features and labels of the training images of a draw, then of all held-out ones."""
        (bank, labels), queries = self._features
        data = self._task.config.data
        chosen = np.arange(len(bank))
        if data.labels_per_class is not None or data.labels_share is not None:
            chosen = few.draw(
                labels, self._task.train.classes, per_class=data.labels_per_class,
                share=data.labels_share, number=draw,
            )  # fmt: skip
        return bank[chosen], labels[chosen], *queries

    @functools.cached_property
    def _features(self):
        """Features (N, D) and labels (N,) of both parts, without the records that are broken."""
        task, found = self._task, []
        encoder = load.PretrainedEncoder(self._weights)
        for part, records in (("train", task.train), ("held-out", task.held_out)):
            path = task.folder / f"{self._name}-{part}-{self._output}.npz"
            embed.embed(
                encoder,
                records,
                path,
                output=self._output,
                pixels=pixels_for(self._weights, task.config),
                broken_share=task.config.data.broken_share,
            )
            with np.load(path) as file:
                sound = ~file["broken"]
                found.append((file["features"][sound], file["labels"][sound]))
        return found


def _trials(task, encoders, methods, draws) -> Iterator[study.Trial]:
    for name, source in zip(_names(encoders), encoders, strict=True):
        say(f"{name}: {source}")
        frozen = _Frozen(task, name, source)
        for method, draw in itertools.product(methods, draws):
            yield study.Trial(
                frozen.row,
                draw,
                _trial_name(method, name, draw),
                functools.partial(getattr(frozen, method), draw),
                column=method,
            )


def _trial_name(method, name, draw) -> str:
    return f"{method}/{name}-{draw}"


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
    methods = [method for method in METHODS if method in rows[0]]
    return study.markdown(
        ["encoder", "parameters", "features", *(_TITLES[method] for method in methods)],
        [
            [
                row["encoder"],
                f"{row['parameters'] / 1e6:.2f} M",
                f"{row['output']}, {row['width']}",
                *(study.percent(row[method]) for method in methods),
            ]
            for row in rows
        ],
    )

"""One frozen encoder of a comparison, and the probes of its layers."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.config import named
from mae_jax.data import few, sources
from mae_jax.errors import UsageError
from mae_jax.evaluation import attentive, knn, logistic
from mae_jax.evaluation.whitening import Moments
from mae_jax.inference import embed, whiten
from mae_jax.inference.views import pixels_for
from mae_jax.studies import finetune
from mae_jax.weights import adapt, load, pretrained
from mae_jax.weights.described import Weights
from mae_jax.weights.read import read
from mae_jax.weights.whitened import names_of


@dataclasses.dataclass(frozen=True)
class Task:
    """What every encoder is put through.

    Attributes:
      config: of data and probes.
      train, held_out: the records.
      folder: for features.
      output: the features, or None for what each encoder has.
      heads: of encoders that do not say it.
      layers: numbers of blocks, or None for the last alone.
      queries: of the attentive probe, or None for what suits the width.
    """

    config: Any
    train: sources.Source
    held_out: sources.Source
    folder: Path
    output: str | None
    heads: int | None
    layers: tuple[int, ...] | None = None
    queries: int | None = None

    def weights(self, source: str) -> Weights:
        """Of an encoder, at the size that the config says, or its own."""
        sides = self.config.model.image_size  # None: what the encoder was trained with
        size = sides[0] if sides is not None and len(sides) == 1 else sides
        weights = read(source, part="encoder", heads=self.heads, image_size=size)
        return adapt.fitted(weights, size)

    def check(self, source: str, methods: Sequence[str]) -> None:
        """Raises UsageError for an encoder without one of the layers, or of another width."""
        d = self.weights(source).dimensions
        if self.layers is not None:
            pretrained.checked_layers(self.layers, d.depth)
            if "linear" in methods and d.depth not in self.layers:
                raise UsageError(
                    f"method 'linear' reads the last block; have {d.depth} among --layers for "
                    f"{str(source)!r}, or leave the method out"
                )
        if "attentive" in methods:
            attentive.check_queries(self.queries, d.width)


class Encoder:
    """One encoder, and its features of all images, which are kept in the task's folder.

    Attributes:
      task: of the comparison.
      source: where it comes from; of a name, with the commit that was read.
      depth: how many blocks it has.
      row: what its rows of the table begin with.
    """

    def __init__(self, task: Task, name: str, source: str):
        self.task, self._name, self._weights = task, name, task.weights(source)
        # Of a name, which may be another's tomorrow, the commit that was read.
        self.source = self._weights.origin["source"] if named.is_name(source) else str(source)
        self.depth = self._weights.dimensions.depth
        self._output = task.output or ("token" if self._weights.class_token else "mean")
        self.row = {
            "encoder": name,
            "source": self.source,
            "parameters": sum(tensor.size for tensor in self._weights.tensors.values()),
            "width": self._weights.dimensions.width,
            "patch_size": list(self._weights.dimensions.patch_size),
            "output": self._output,
        }

    def pooled(self, layer: int | None) -> list[tuple[np.ndarray, np.ndarray]]:
        """Features (N, D) and labels (N,) of both parts, without the records that are broken."""
        return self._read(self._output, layer, self.task.layers)

    def patches(self, layer: int | None) -> list[tuple[np.ndarray, np.ndarray]]:
        """The same of patch tokens, (N, patches, D), in float16, which is half the memory."""
        return self._read("patches", layer, None if layer is None else (layer,), dtype="float16")

    def _read(self, output, layer, layers, **options):
        task, found = self.task, []
        suffix = "" if layers is None else "-" + "-".join(map(str, layers))
        (name,) = names_of(None if layer is None else (layer,))
        for part, records in (("train", task.train), ("held-out", task.held_out)):
            path = task.folder / f"{self._name}-{part}-{output}{suffix}.npz"
            embed.embed(
                self._encoder,
                records,
                path,
                output=output,
                layers=layers,
                pixels=pixels_for(self._weights, task.config),
                broken_share=task.config.data.broken_share,
                **options,
            )
            with np.load(path) as file:
                sound = ~file["broken"]
                found.append((file[name][sound], file["labels"][sound]))
        return found

    @functools.cached_property
    def _encoder(self):
        return load.PretrainedEncoder(self._weights)


class Layer:
    """The probes of an encoder, or of one of its layers.

    Each takes the number of a draw and a work folder.

    Attributes:
      row: of the table.
      last: whether it is the last layer.
    """

    def __init__(self, encoder: Encoder, layer: int | None):
        self._encoder, self._layer, self._task = encoder, layer, encoder.task
        self.last = layer in (None, encoder.depth)
        self.row = encoder.row | ({} if layer is None else {"layer": layer})

    def logistic(self, draw: int, folder: Path) -> dict[str, float]:
        return self._logistic(draw, self._features)

    def logistic_whitened(self, draw: int, folder: Path) -> dict[str, float]:
        return self._logistic(draw, self._mapped("whiten"), standardised=False)

    def _logistic(self, draw, features, **options):
        fit = logistic.fit(*self._drawn(draw, features), **options)
        return {"accuracy": fit.accuracy, "inverse_l2": fit.inverse_l2}

    def knn(self, draw: int, folder: Path) -> dict[str, float]:
        return self._knn(draw, self._features)

    def knn_centred(self, draw: int, folder: Path) -> dict[str, float]:
        return self._knn(draw, self._features, centred=True)

    def knn_standardised(self, draw: int, folder: Path) -> dict[str, float]:
        return self._knn(draw, self._mapped("standardise"))

    def knn_whitened(self, draw: int, folder: Path) -> dict[str, float]:
        return self._knn(draw, self._mapped("whiten"))

    def _knn(self, draw, features, centred=False):
        log = self._task.config.log
        accuracy = knn.accuracy(
            *self._drawn(draw, features),
            classes=len(self._task.train.classes),
            k=log.knn_neighbours,
            temperature=log.knn_temperature,
            centred=centred,
        )
        return {"accuracy": accuracy}

    def attentive(self, draw: int, folder: Path) -> dict[str, float]:
        tokens, labels, held_out, truth = self._drawn(draw, self._patches)
        probe = attentive.fit(
            tokens,
            labels,
            classes=len(self._task.train.classes),
            seed=self._task.config.seed + draw,
            recipe=attentive.Recipe(queries=self._task.queries),
        )
        return {"accuracy": attentive.accuracy(probe, held_out, truth)}

    def linear(self, draw: int, folder: Path) -> dict[str, float]:
        config = self._task.config.copy_and_resolve_references()
        config.init_from, config.data.label_draw = self._encoder.source, draw
        config.model.heads = self._task.heads
        if config.data.labels_per_class is None and config.data.labels_share is None:
            config.seed += draw
        return {"accuracy": finetune.accuracy_of(finetune.run(config, folder, quiet=True))}

    def _drawn(self, draw, features):
        """Features and labels of the training images of a draw, then of all held-out ones."""
        (bank, labels), held_out = features
        data = self._task.config.data
        if data.labels_per_class is None and data.labels_share is None:
            return bank, labels, *held_out
        chosen = few.draw(
            labels, self._task.train.classes, per_class=data.labels_per_class,
            share=data.labels_share, number=draw,
        )  # fmt: skip
        return bank[chosen], labels[chosen], *held_out

    @functools.cached_property
    def _features(self):
        return self._encoder.pooled(self._layer)

    @functools.cached_property
    def _patches(self):
        return self._encoder.patches(self._layer)

    def _mapped(self, kind):
        """The features through a map that all training images say, whatever labels are drawn."""
        (bank, labels), (held_out, truth) = self._features
        moments = Moments([bank])
        whiten.note(kind, moments)
        try:
            fitted = moments.fit(kind)
        except ValueError as error:
            raise UsageError(f"--{kind}: {error}") from None
        return (fitted(bank), labels), (fitted(held_out), truth)

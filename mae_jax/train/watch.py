"""Looking at a run from outside: held-out measures, nearest neighbours, panels."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mae_jax import beats, hosts
from mae_jax.data import loader, sources
from mae_jax.data.progress import say
from mae_jax.data.subset import Subset
from mae_jax.evaluation import knn, rank
from mae_jax.parallel import Layout
from mae_jax.train import step as step_lib
from mae_jax.train.distill import Distill
from mae_jax.train.objectives import Objective, Reconstruct
from mae_jax.train.state import TrainState
from mae_jax.visualize import reconstruction

_EVALUATION = 2**31 - 1  # folded into the seed: evaluation never uses a training step's masks
_PICTURES = 16
_DIAGNOSED = 1024  # images of either part, at most


class Watch:
    """Measures states of one run on its data.

    Args:
      objective: what is measured.
      train: the training records, for nearest neighbours.
      held_out: the records to measure on; None where the config names none.
      config: of the run.
      layout: of the states.
      teacher: arrays of the objective's, as of `step.train_step`.
    """

    def __init__(
        self,
        objective: Objective,
        train: sources.Source,
        held_out: sources.Source | None,
        config,
        layout: Layout,
        teacher: Any = None,
    ):
        self._objective, self._held_out, self._layout = objective, held_out, layout
        self._teacher = teacher
        self._picture, self._cache = loader.Picture.from_config(config), config.data.cache
        self._batch_size = _evaluation_batch(config.data.batch_size, held_out, layout)
        self._key = jax.random.fold_in(jax.random.key(config.seed), _EVALUATION)
        self._config, self._broken = config, {}  # a ledger for each source
        self._drawn = None if held_out is None else _spread(held_out, self._batch_size)
        self._patch_size = objective.dimensions.patch_size
        self._neighbours, self._temperature = config.log.knn_neighbours, config.log.knn_temperature
        self._bank = self._queries = None  # labelled records, for nearest neighbours
        if has_neighbours(config, train, held_out):
            bank, self._queries = sources.labelled(train), sources.labelled(held_out)
            some = np.random.default_rng(0).permutation(len(bank))[: config.log.knn_images]
            self._bank = Subset(bank, np.sort(some))
        self._training = self._ranked = None  # what tells whether it is learning
        if config.log.diagnose and held_out is not None and self._has_encoder():
            count = min(_DIAGNOSED, len(held_out))
            self._training, self._ranked = _some(train, count), _some(held_out, count)

    def measure(self, state: TrainState) -> dict[str, float]:
        """Means over the held-out records, each counted once.

        Where the run keeps a moving average of its parameters, of that too, as `eval_ema_*`. With
        `log.diagnose` also `eval_train_loss`, of training images seen and hidden as held-out ones
        are, and `eval_rank`, the effective rank of features (`evaluation.rank.rankme`).
        """
        if self._held_out is None:
            return {}
        found = self._means(state, self._held_out)
        measures = {f"eval_{name}": value for name, value in found.items()}
        if self._training is not None:
            measures["eval_train_loss"] = self._means(state, self._training)["loss"]
            measures["eval_rank"] = rank.rankme(self._features(state, self._ranked))
        if state.ema is not None:
            found = self._means(state.averaged(), self._held_out)
            measures |= {f"eval_ema_{name}": value for name, value in found.items()}
        return measures

    def names(self, template: TrainState) -> list[str]:
        """Of all that is measured; nothing is.

        Args:
          template: a state's shapes.
        """
        if self._held_out is None:
            return []
        batch = next(self._batches(self._held_out))
        found = list(self._apply("measure", template, batch, 0, step_lib.shapes_of_pass))
        names = [f"eval_{name}" for name in found]
        names += ["eval_train_loss", "eval_rank"] if self._training is not None else []
        if template.ema is not None:
            names += [f"eval_ema_{name}" for name in found]
        return names + ["eval_knn_accuracy"] * self._looks_for_neighbours()

    def described(self) -> str | None:
        """On how many images kNN accuracy is measured, in one line; None where it is not."""
        if not self._looks_for_neighbours():
            return None
        bank, counts = len(self._bank), np.bincount(self._queries.labels())
        return (
            f"kNN accuracy: of {len(self._queries)} held-out images, by the "
            f"{min(self._neighbours, bank)} nearest of {bank} training images; to say "
            f"{self._bank.classes[counts.argmax()]!r} of all would be right for "
            f"{counts.max() / len(self._queries):.0%}"
        )

    def _looks_for_neighbours(self):
        return self._bank is not None and self._has_encoder()

    def _has_encoder(self):
        """Whether what is trained is an encoder, whose features say something by themselves."""
        return isinstance(self._objective, Reconstruct | Distill)

    def _means(self, state, source):
        sums: dict[str, float] = {}
        for index, batch in enumerate(self._batches(source)):
            measures = self._apply("measure", state, batch, index)
            for name, values in measures.items():
                weighted = float((np.asarray(values) * batch["weight"]).sum())
                sums[name] = sums.get(name, 0.0) + weighted
        return {name: total / len(source) for name, total in sums.items()}

    def neighbours(self, state: TrainState) -> dict[str, float]:
        """kNN accuracy of the frozen encoder on held-out images, where there are labels."""
        if not self._looks_for_neighbours():
            return {}
        bank, queries = self._features(state, self._bank), self._features(state, self._queries)
        value = knn.accuracy(
            bank,
            self._bank.labels(),
            queries,
            self._queries.labels(),
            classes=len(self._bank.classes),
            k=self._neighbours,
            temperature=self._temperature,
        )
        return {"eval_knn_accuracy": value}

    def panel(self, state: TrainState, path: Path) -> np.ndarray | None:
        """Draws reconstructions of held-out images to `path`; (H, W, 3) uint8, or None.

        Without them, what is hidden alone, where the target cannot be drawn.

        All processes take part, and process 0 draws.
        """
        if self._held_out is None or not isinstance(self._objective, Reconstruct):
            return None
        # Whole in every process: what is drawn of it may be another's share.
        batch = next(self._batches(self._drawn, whole=True))
        pictures, mask = self._apply("reconstruct", state, batch, 0)
        if not hosts.is_first():
            return None
        count = min(_PICTURES, len(self._drawn))
        originals, pixels = batch["image"][:count], self._objective.pixels
        shown = pixels.shown(originals, like=originals)
        hidden = reconstruction.hide(shown, np.asarray(mask)[:count], self._patch_size)
        columns = {"masked": hidden, "original": shown}
        if pictures is not None:
            made = pixels.shown(np.asarray(pictures)[:count], like=originals)
            columns = {"masked": hidden, "reconstructed": made, "original": shown}
        sheet = reconstruction.panel(columns)
        fresh = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(exist_ok=True)
            # At once: what has this name is whole, and is not drawn again.
            sheet.save(fresh, "PNG")
            fresh.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink()
            say(f"{path} cannot be written: {error.strerror or error}; the run goes on without it")
        return np.asarray(sheet)

    def _apply(self, method, state, batch, index, apply=step_lib.apply):
        beats.other("evaluation")
        given = {name: batch[name] for name in ("image", "label")}
        on_device = step_lib.put(given, self._layout, self._batch_size)
        return apply(
            state,
            on_device,
            jax.random.fold_in(self._key, index),
            objective=self._objective,
            method=method,
            layout=self._layout,
            teacher=self._teacher,
        )

    def _batches(self, source, *, whole: bool = False) -> Iterator[loader.Batch]:
        rows = None if whole else self._layout.rows(self._batch_size)
        if id(source) not in self._broken:
            # Of parts of images, whose share is counted elsewhere, any number may be broken.
            share = 1.0 if source is self._training or source is self._ranked else None
            self._broken[id(source)] = loader.new_ledger(self._config, source, say, share)
        return loader.plain_batches(
            source, self._picture, self._batch_size, self._cache, rows, self._broken[id(source)]
        )

    def _features(self, state, source):
        found = [
            np.asarray(self._apply("features", state, batch, 0)) for batch in self._batches(source)
        ]
        return np.concatenate(found)[: len(source)]


def has_neighbours(config, train: sources.Source, held_out: sources.Source | None) -> bool:
    """Whether kNN accuracy of the encoder is measured: it needs labels."""
    return bool(config.log.knn and held_out is not None and train.classes and held_out.classes)


def _spread(source, most):
    """The records that panels show, of all parts of a source: a folder's are sorted by class."""
    return _some(source, min(_PICTURES, most))


def _some(source, count):
    count = min(count, len(source))
    return Subset(source, np.linspace(0, len(source) - 1, count).round().astype(int))


def _evaluation_batch(batch_size, held_out, layout):
    # Masks are drawn by the batch, so that its size must not follow the number of devices: any
    # number that divides 64 gives the same.
    unit = math.lcm(64, layout.mesh.size)
    wanted = min(batch_size, 1024, len(held_out) if held_out is not None else batch_size)
    return -(-wanted // unit) * unit

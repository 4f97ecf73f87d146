"""What a run trains, on what and for how long: a config made concrete, and checked."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from mae_jax import config as config_lib
from mae_jax import parallel, pixels
from mae_jax.config.architecture import settled_model
from mae_jax.config.cross_checks import check_batch
from mae_jax.data import broken, describe, few, loader, sources
from mae_jax.errors import UsageError
from mae_jax.parallel import Layout, Split
from mae_jax.train import fits, state, trackers
from mae_jax.train.checkpoints import rhythm
from mae_jax.train.classify import Classify
from mae_jax.train.distill import Distill
from mae_jax.train.objectives import Objective, Reconstruct
from mae_jax.train.optimizer import Recipe
from mae_jax.train.teacher import NOT_HERE, Teacher


@dataclasses.dataclass(frozen=True)
class Task:
    """A config made concrete: what is trained, on what, for how long."""

    config: Any
    train: sources.Source
    held_out: sources.Source | None
    objective: Objective
    recipe: Recipe
    steps: int
    steps_per_epoch: float
    split: Split

    def batches(
        self,
        layout: Layout,
        *,
        first: int = 0,
        steps: int | None = None,
        ledger: broken.Ledger | None = None,
    ) -> Iterator[loader.Batch]:
        """This process's part of every batch of the run.

        Args:
          layout: of the state.
          first: the step to begin with.
          steps: where to end; the run's own number by default.
          ledger: of records that cannot be read, and are to be left out.
        """
        data = self.config.data
        workers = data.workers
        if workers is None:
            workers = loader.default_workers(data.cache)
        made = self.by_step(layout, steps=self.steps if steps is None else steps, ledger=ledger)
        return made.iterate(first, workers)

    def by_step(
        self, layout: Layout, *, steps: int, ledger: broken.Ledger | None = None
    ) -> loader.TrainBatches:
        """As `batches`, to be asked for any of them."""
        data = self.config.data
        return loader.TrainBatches(
            self.train,
            loader.Picture.from_config(self.config),
            batch_size=data.batch_size,
            seed=self.config.seed,
            steps=steps,
            cache=data.cache,
            rows=layout.rows(data.batch_size),
            repeats=data.repeats,
            ledger=ledger,
        )

    def described(self, layout: Layout) -> str:
        """What is about to be trained, and for how long, in a few lines."""
        d, kind = self.objective.dimensions, self.config.train.objective
        counts = state.parameters(self.objective, self.recipe)
        lines = [
            f"model: {kind}, {counts['all'] / 1e6:.3g} M parameters, "
            f"{counts['encoder'] / 1e6:.3g} M of them in an encoder of {d.depth} blocks, "
            f"{d.width} wide; {d.patches} patches of an image",
            f"run: {self.steps} steps of {self.config.data.batch_size} images, "
            f"{self.steps / self.steps_per_epoch:.4g} epochs"
            + (f"; the learning rate rises for {warmup}" if (warmup := self._warmup()) else ""),
            f"devices: {layout.mesh.size} x {layout.mesh.devices.flat[0].device_kind}; "
            f"mesh: {self.split}",
        ]
        if self.steps_per_epoch < 1:
            lines.append(
                f"data.batch_size {self.config.data.batch_size} is more than the "
                f"{len(self.train) * self.config.data.repeats} images of an epoch: every step sees "
                "some of them more than once"
            )
        return "\n".join(lines)

    def enlarged(self) -> str | None:
        """A sentence where the images that are trained on are far smaller than the model's."""
        form = loader.Picture.from_config(self.config).form
        found = describe.enlarged(self.train, form, self.objective.dimensions.image_size)
        if found is None or self.config.init_from is not None:
            return found  # patches are those of the weights
        return f"{found}; smaller model.image_size and model.patch_size show as much in less time"

    def _warmup(self) -> str:
        """How long the learning rate rises, in words; nothing where it does not."""
        steps = self.recipe.warmup_steps
        share = steps / self.steps
        long = f", {share:.0%} of them: the warm-up is that of a longer run" if share > 0.25 else ""
        return f"the first {steps}{long}" if steps else ""

    def is_due(self, step: int, epochs: float) -> bool:
        """Whether what is done every so many epochs is done after this step.

        It is the step nearest to a multiple of them, so that roundings do not add up: where the
        last multiple is the end of the run, it falls on the last step.
        """
        if epochs * self.steps_per_epoch <= 1:
            return True
        count = round(step / (epochs * self.steps_per_epoch))
        return step == _steps(count * epochs, self.steps_per_epoch)


def prepare(
    config,
    devices: int,
    opened: tuple[sources.Source, sources.Source | None] | None = None,
    teacher: Teacher | None = None,
    slices: int = 1,
) -> Task:
    """Checks a config and opens its data; creates nothing.

    Args:
      config: see `mae_jax.config`.
      devices: how many the run has, over all hosts.
      opened: `train` and `held_out` of another task with the same data, not to be read again.
      teacher: that the config names, if it does.
      slices: that the devices are of.

    Raises:
      UsageError: anything in the config that cannot work.
    """
    config_lib.validate(config)
    trackers.check(config.log)
    config = config.copy_and_resolve_references()
    config.model.update(settled_model(config))
    pixels.settle(config)
    rhythm.settle(config.checkpoint)
    train, held_out = opened or _open_data(config)
    steps_per_epoch = len(train) * config.data.repeats / config.data.batch_size
    steps = config.train.steps or max(1, _steps(config.train.epochs, steps_per_epoch))
    if config.train.objective in ("classify", "probe") and not train.classes:
        raise UsageError(f"train.objective {config.train.objective!r} {train.no_labels()}")
    objective = objective_of(config, len(train.classes or ()), teacher)
    fits.check_batch_fits(config, objective, len(train) * config.data.repeats)
    recipe = Recipe.from_config(
        config,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        undecayed=objective.undecayed,
        depth=objective.dimensions.depth,
    )
    split = split_of(config, objective, recipe, devices, slices)
    return Task(config, train, held_out, objective, recipe, steps, steps_per_epoch, split)


def _steps(epochs: float, steps_per_epoch: float) -> int:
    return round(epochs * steps_per_epoch)


def objective_of(config, classes: int, teacher: Teacher | None = None) -> Objective:
    """What a config trains.

    Args:
      config: of which `model` is settled.
      classes: of the data; nothing but classifiers asks for them.
      teacher: that the config names, if it does.

    Raises:
      UsageError: the config names what cannot be had.
    """
    if config.train.objective == "reconstruct":
        return Reconstruct.from_config(config, teacher)
    if config.train.objective != "distill":
        return Classify.from_config(config, classes)
    if teacher is None:
        raise UsageError(NOT_HERE)
    return Distill.from_config(config, teacher)


def split_of(config, objective: Objective, recipe: Recipe, devices: int, slices: int = 1) -> Split:
    """How a run uses devices, which are of so many slices.

    Raises:
      UsageError: batch or heads cannot be spread over them so.
    """
    d, heads = objective.dimensions, {}
    split = parallel.choose(
        config.parallel, devices, d.widths, lambda: state.size(objective, recipe)[1], slices
    )
    check_batch(config.data.batch_size, split.batch_shards, config.train.accumulate)
    heads["model.heads"] = d.heads
    if isinstance(objective, Reconstruct):
        heads["model.decoder_heads"] = d.decoder_heads
    if objective.teacher is not None:
        heads["the heads of train.teacher"] = objective.teacher.dimensions.heads
    parallel.check_heads(split.tensor, heads)
    return split


def _open_data(config):
    data = config.data
    train, held_out = sources.open_source(data, data.split), None
    if data.eval_split is not None:
        held_out = sources.open_source(data, data.eval_split, train.classes)
    if config.train.objective in ("classify", "probe"):
        train = sources.labelled(train)
        held_out = None if held_out is None else sources.labelled(held_out)
        if len(train.classes) == 1:
            raise UsageError(
                f"all images are of one class, {train.classes[0]!r}, and a classifier needs two; "
                "class folders lie beside each other in what data.folder names"
            )
    return few.few_labels(train, data), held_out

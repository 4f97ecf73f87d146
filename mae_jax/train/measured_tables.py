"""What targets are measured by: tables of the training images, made once as training starts.

They are those of the first images that the run trains on, augmented as they are then, so that they
follow from the data and the seed. All processes get the same.
"""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mae_jax import beats, hosts
from mae_jax.data import loader
from mae_jax.models import patches
from mae_jax.models.targets import Target
from mae_jax.parallel import Layout
from mae_jax.train import state as state_lib
from mae_jax.train import step as step_lib
from mae_jax.train import teacher as teacher_lib
from mae_jax.train.objectives import Reconstruct
from mae_jax.train.task import Task

_PATCHES = 2**16  # enough for directions of patches of 16 x 16 pixels in colour
_AT_A_TIME = 64  # images
_IMAGES = 4096  # in whole batches, of whose tokens a teacher's mean and deviation are measured
_LEAST = 1e-3  # of all deviations' root mean square: a number that hardly varies says nothing
_OF_TOKENS = {teacher_lib.PATCHES: "target", teacher_lib.CLASS: "class_target"}


def completed(
    task: Task,
    layout: Layout,
    fresh: state_lib.TrainState,
    teacher: Any,
    say: Callable[[str], None],
) -> state_lib.TrainState:
    """A new state with what its targets are measured by.

    Args:
      layout: of the state.
      fresh: as `state.create` gives it.
      teacher: arrays of the objective's, as of `step.train_step`.
      say: tells the person watching what takes a while.
    """
    objective, found = task.objective, {}
    if objective.teacher is not None:
        images = _steps(task) * task.config.data.batch_size
        say(f"the teacher looks at {images} images, to measure how its tokens differ")
        found = spread(task, layout, fresh, teacher)
    elif isinstance(objective, Reconstruct) and objective.needs_directions:
        found = {"target": directions(task)}
    placed = {
        name: jax.tree.map(state_lib.placed, fresh.tables[name], tables)
        for name, tables in found.items()
    }
    return fresh._replace(tables=fresh.tables | placed)


def spread(
    task: Task, layout: Layout, state: state_lib.TrainState, teacher: Any
) -> dict[str, dict[str, np.ndarray]]:
    """The tables of `targets.Features`, float32, `mean` and `deviation` (V,), by their module."""
    config, size = task.config, task.config.data.batch_size
    measured: dict[str, list[np.ndarray]] = {}
    with contextlib.closing(task.batches(layout, steps=_steps(task))) as batches:
        for batch in batches:
            beats.other("measuring what the teacher says")
            found = step_lib.apply(
                state,
                step_lib.put({name: batch[name] for name in ("image", "label")}, layout, size),
                jax.random.key(0),
                objective=task.objective,
                method="moments",
                layout=layout,
                teacher=teacher,
                accumulate=config.train.accumulate,
            )
            for name, moments in found.items():
                measured.setdefault(name, []).append(np.asarray(moments, np.float64))
    tables = {}
    for name, of_batches in measured.items():
        means, variances = np.stack(of_batches, 1)
        variance = variances.mean(0) + means.var(0)  # within batches, and between them
        least = max(_LEAST * math.sqrt(variance.mean()), np.finfo(np.float32).tiny)
        values = {"mean": means.mean(0), "deviation": np.maximum(np.sqrt(variance), least)}
        tables[_OF_TOKENS[name]] = {n: value.astype(np.float32) for n, value in values.items()}
    return tables


def _steps(task):
    return max(1, min(_IMAGES, len(task.train)) // task.config.data.batch_size)


def directions(task: Task) -> dict[str, np.ndarray]:
    """The tables of `targets.PrincipalComponents`, float32: `mean` (P,), `components` (size, P)."""
    objective, config = task.objective, task.config
    d, given = objective.dimensions, dict(objective.arguments)
    wanted = min(math.ceil(_PATCHES / d.patches), len(task.train))
    batches = loader.TrainBatches(
        task.train,
        loader.Picture.from_config(config),
        batch_size=_AT_A_TIME,
        seed=config.seed,
        steps=math.ceil(wanted / _AT_A_TIME),
        repeats=config.data.repeats,
    )
    pixels = math.prod(d.patch_size) * d.channels
    target = Target(pixels, norm_pix=given["norm_pix"])

    @jax.jit
    def true(images):
        return target(patches.patchify(objective.pixels.standardise(images), d.patch_size))

    count, total, products = 0, np.zeros(pixels), np.zeros((pixels, pixels))
    for step in range(len(batches)):
        images = batches[step]["image"][: wanted - step * _AT_A_TIME]
        rows = np.asarray(true(images), np.float64).reshape(-1, pixels)
        count, total, products = count + len(rows), total + rows.sum(0), products + rows.T @ rows
    mean = total / count
    # In the order of their variance, the smallest first.
    _, found = np.linalg.eigh(products / count - np.outer(mean, mean))
    components = found[:, ::-1].T[: given["target_size"]]
    # The sign of a direction is arbitrary: its largest part is positive.
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
    tables = {"mean": mean, "components": components * np.sign(largest)}
    return hosts.of_first({name: value.astype(np.float32) for name, value in tables.items()})

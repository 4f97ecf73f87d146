"""The principal directions of training patches, by which a PCA target is measured."""

import math

import jax
import numpy as np

from mae_jax import hosts
from mae_jax.data import loader
from mae_jax.models import patches
from mae_jax.models.targets import Target
from mae_jax.train.task import Task

_PATCHES = 2**16  # enough for directions of patches of 16 x 16 pixels in colour
_AT_A_TIME = 64  # images


def measured(task: Task) -> dict[str, np.ndarray]:
    """The tables of `targets.PrincipalComponents`, float32: `mean` (P,), `components` (size, P).

    They are those of the first images that the run trains on, augmented as they are then, so that
    they follow from the data and the seed. All processes get the same.
    """
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
    _, directions = np.linalg.eigh(products / count - np.outer(mean, mean))
    components = directions[:, ::-1].T[: given["target_size"]]
    # The sign of a direction is arbitrary: its largest part is positive.
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
    found = {"mean": mean, "components": components * np.sign(largest)}
    return hosts.of_first({name: value.astype(np.float32) for name, value in found.items()})

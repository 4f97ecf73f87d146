"""What to say of a run whose numbers are no longer finite: what is likely, and what is left."""

import jax.numpy as jnp
import numpy as np

from mae_jax.errors import BrokenRecord
from mae_jax.parallel import Layout
from mae_jax.train.objectives import compute_dtype
from mae_jax.train.task import Task

_FAR = 1e4  # deviations from the mean; real images are within tens of them


def advice(task: Task, layout: Layout, step: int, manager) -> str:
    """The likely reason that a step's numbers are not finite, what helps, and what is saved.

    Args:
      task: of the run.
      layout: of the state.
      step: whose batch it was.
      manager: of the run's checkpoints.
    """
    latest = manager.latest_step()
    if latest is None:
        left = "there is no checkpoint yet, so that the same --workdir takes other settings"
    else:
        left = (
            f"checkpoint {latest} in {manager.directory} is from before; other settings need "
            "another --workdir"
        )
    return f"{_reason(task, layout, step)}. {left[0].upper()}{left[1:]}"


def _reason(task, layout, step):
    config = task.config
    far = _far(task, layout, step)
    if far is not None:
        return (
            f"{far}, which is the likely reason: see whether data.mean and data.std are in the "
            "units of the images, as `mae-jax data stats` gives them, and what is in that image"
        )
    narrow = compute_dtype(config.model.dtype) == jnp.bfloat16
    precise = ", or --config.model.dtype=float32" if narrow else ""
    if step == 1:
        return (
            "no update was made before, so that it is not the learning rate; look at data.mean, "
            f"data.std and the dimensions of the model{precise}"
        )
    return f"a lower train.base_lr, a longer warm-up, train.clip_norm{precise} may help"


def _far(task, layout, step) -> str | None:
    """The image of this process's part of a batch whose pixels are absurdly far from the mean."""
    batches = task.by_step(layout, steps=step)
    try:
        images = batches[step - 1]["image"]
    except BrokenRecord:
        return None
    values = np.asarray(task.objective.pixels.standardise(images))
    furthest = np.abs(values).reshape(len(values), -1).max(1)
    # Not `>`, which is false of what is no number.
    beyond = np.flatnonzero(~(furthest <= _FAR))
    if not len(beyond):
        return None
    record = batches.records(step - 1)[beyond[0]]
    return (
        f"image {task.train.name(record)!r} has values {furthest[beyond[0]]:.3g} deviations from "
        "the mean"
    )

"""Whether a batch can fit at all: a lower bound on what it takes, before anything is made."""

import math
import os
from pathlib import Path

import jax

from mae_jax.errors import UsageError
from mae_jax.train.objectives import Objective, Reconstruct, compute_dtype

_TIMES = 100  # an image in a batch, at most: more often only by mistake
_AHEAD = 2  # batches of pixels: the one in training, and the next


def check_batch_fits(config, objective: Objective, records: int) -> None:
    """Raises UsageError where a batch is far more than the data, or more than all memory.

    Of memory, pixels and what the gradient needs are counted, and only what cannot be otherwise: it
    is no promise that the run fits. Of the gradient that is the input of every block, which is
    stored even where blocks are computed again.
    """
    d, data = objective.dimensions, config.data
    if data.batch_size > _TIMES * records:
        raise UsageError(
            f"data.batch_size {data.batch_size} is more than {_TIMES} times the {records} images "
            "of the data; make it smaller"
        )
    here = data.batch_size / jax.process_count()
    pixels = math.prod(d.image_size) * d.channels * (4 if data.pixels == "float32" else 1)
    memory = machine_memory()
    wanted = [("of pixels at a time", here * pixels * _AHEAD, memory, "this machine has")]
    if config.train.objective != "probe" and config.train.trained_blocks is None:
        tokens = d.patches
        if isinstance(objective, Reconstruct) and not config.model.mask_tokens_in_encoder:
            tokens = objective.kept
        width = d.width * compute_dtype(config.model.dtype).itemsize
        inputs = here / config.train.accumulate * tokens * width * d.depth
        limits = [_device_memory(device) for device in jax.local_devices()]
        on_devices = memory if jax.default_backend() == "cpu" else sum(limits)
        wanted.append(("for the gradient", inputs, on_devices, "its devices have"))
    for what, size, limit, where in wanted:
        if 0 < limit < size:
            raise UsageError(
                f"data.batch_size {data.batch_size} takes at least {_gib(size)} {what}, and "
                f"{where} {_gib(limit)}; make it smaller"
            )


def machine_memory() -> int:
    """Bytes that this machine, or the container that the process is in, has; 0 if unknown."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
    try:
        return min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no such group, or "max"
        return physical


def _device_memory(device) -> int:
    try:
        return (device.memory_stats() or {}).get("bytes_limit", 0)
    except jax.errors.JaxRuntimeError:
        return 0


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"

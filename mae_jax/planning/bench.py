"""How fast a config trains on this machine, and what limits it."""

import itertools
import statistics
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mae_jax import parallel
from mae_jax.data import loader, processes
from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.parallel import Layout
from mae_jax.train import state
from mae_jax.train.objectives import compute_dtype
from mae_jax.train.step import put, train_step
from mae_jax.train.task import Task, prepare
from mae_jax.weights import start

_ENDLESS = 2**31
_INPUT_SECONDS = 30.0  # after which the loader was watched for long enough


def bench(config, *, steps: int = 20) -> dict[str, Any]:
    """Measures the step, the loader and both together; trains from scratch and keeps nothing.

    Args:
      config: see `mae_jax.config`; its own data, batch size and layout are used.
      steps: how many are timed of each kind.

    Returns:
      `step_seconds` (median) and `step_seconds_from`, `step_seconds_to` (tenth and ninetieth
      percentile) of the step alone, its batch being on the device already, and what follows from
      them: `images_per_second`, `flops_per_second`, and `peak_share`, with `peak` saying of what;
      `input_images_per_second`, what the loader makes with nothing else going on;
      `training_images_per_second` and `data_wait_share` of both together, as in a run;
      `training_steps` of the whole run that the config asks for, and the `training_seconds` that
      they would take at that rate, without evaluation and saving;
      `limit`, "step" or "input", and in `advice` what to do about it.

    Raises:
      UsageError: too few steps, or anything in the config that cannot work.
      BrokenRecord: an image cannot be read.
    """
    if steps < 3:
        raise UsageError(f"--steps={steps} must be at least 3, for a median and a spread")
    start.adopt(config)
    task = prepare(config, jax.device_count(), slices=parallel.slices_of())
    layout, batch_size = Layout.of(task.split), config.data.batch_size
    say(f"{_device()}; mesh: {task.split}; {batch_size} images a step")
    result: dict[str, Any] = {"device": _device(), "batch_size": batch_size}

    made = task.batches(layout, steps=_ENDLESS)
    result["input_images_per_second"] = batch_size / _input_seconds(made, steps)
    say(f"loader: {result['input_images_per_second']:.4g} images/s by itself")

    trainer = _Trainer(task, layout)
    held = put(next(made), layout, batch_size)
    say("compiling the step")
    result["compile_seconds"] = trainer.compile(held)
    seconds = trainer.time(lambda: held, steps, "step")
    median = statistics.median(seconds)
    result |= {
        "step_seconds": median,
        "step_seconds_from": float(np.quantile(seconds, 0.1)),
        "step_seconds_to": float(np.quantile(seconds, 0.9)),
        "images_per_second": batch_size / median,
    }
    result |= _share_of_peak(task, median)

    # From a fresh start: nothing that was made while the step alone was timed.
    made, waited = task.batches(layout, steps=_ENDLESS), []

    def following():
        began = time.perf_counter()
        batch = next(made)
        waited.append(time.perf_counter() - began)
        return put(batch, layout, batch_size)

    for _ in range(_ahead()):
        next(made)
    seconds = trainer.time(following, steps, "loader and step")
    result["training_images_per_second"] = batch_size / statistics.mean(seconds)
    result["data_wait_share"] = min(1.0, sum(waited[-steps:]) / sum(seconds))
    result["training_steps"] = task.steps
    result["training_seconds"] = task.steps * batch_size / result["training_images_per_second"]
    result["limit"], result["advice"] = _limit(result)
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in result.items()}


class _Trainer:
    """Trains a state, as the loop does: never more than one step ahead of the device."""

    def __init__(self, task: Task, layout: Layout):
        self._state = state.create(task.objective, task.recipe, task.config.seed, layout)
        self._seed = np.uint32(task.config.seed)
        self._options = dict(
            objective=task.objective,
            recipe=task.recipe,
            layout=layout,
            accumulate=task.config.train.accumulate,
        )

    def _step(self, batch):
        self._state, numbers = train_step(self._state, batch, self._seed, **self._options)
        return numbers

    def compile(self, batch) -> float:
        """Seconds until the first step is done; one more is made, to warm up."""
        started = time.perf_counter()
        jax.block_until_ready((self._step(batch), self._state))
        seconds = time.perf_counter() - started
        jax.block_until_ready((self._step(batch), self._state))
        return seconds

    def time(self, next_batch, steps: int, what: str) -> list[float]:
        """Seconds from the end of each step to the end of the next, for `steps` of them."""
        before, ends, said = self._step(next_batch()), [], time.perf_counter()
        for i in range(steps + 1):
            numbers = self._step(next_batch())
            jax.block_until_ready(before)
            ends.append(time.perf_counter())
            before = numbers
            if i and ends[-1] - said > 5:
                said, left = ends[-1], (ends[-1] - ends[0]) / i * (steps - i)
                say(f"{what}: {i} of {steps}, {left:.0f} s left")
        jax.block_until_ready((before, self._state))
        return [b - a for a, b in itertools.pairwise(ends)]


def _ahead() -> int:
    """Batches that the loader makes ahead, at most: a rate counts only beyond them."""
    return min(2 * processes.cores(), 16)


def _input_seconds(made: Iterator[loader.Batch], steps: int) -> float:
    """Seconds per batch of the loader by itself, in the long run."""
    for _ in range(_ahead()):
        next(made)
    started = time.perf_counter()
    for count in range(1, steps + 1):
        next(made)
        if time.perf_counter() - started > _INPUT_SECONDS and count >= 3:
            break
    return (time.perf_counter() - started) / count


def _share_of_peak(task: Task, seconds: float) -> dict[str, Any]:
    config, objective = task.config, task.objective
    if objective.flops is None:
        return {}
    reached = objective.flops * config.data.batch_size / seconds
    peak, what = _peak(compute_dtype(config.model.dtype))
    return {"flops_per_second": reached, "peak_share": reached / peak, "peak": what}


def _peak(dtype: jnp.dtype) -> tuple[float, str]:
    """FLOP/s of all devices together, and whose word that is."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        from mae_jax.planning import chips

        known = chips.peak(device.device_kind)
        if known is not None:
            total = known * jax.device_count()
            return total, f"{total / 1e12:.4g} TFLOP/s, bfloat16, by data sheet"
    # Large enough to be as fast as products get, and done in a second.
    side = 2048 if device.platform == "cpu" else 8192
    reached = _matrix_product(dtype, side)
    if device.platform != "cpu":  # simulated devices share the cores
        reached *= jax.device_count()
    return reached, f"{reached / 1e12:.3g} TFLOP/s, measured: {dtype} product of {side} x {side}"


def _matrix_product(dtype: jnp.dtype, side: int) -> float:
    """FLOP/s that one device reaches in a product of square matrices, the best of five."""
    matrix = jnp.ones((side, side), dtype)
    multiply = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready(multiply(matrix, matrix))
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(multiply(matrix, matrix))
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def _limit(result: dict[str, Any]) -> tuple[str, str]:
    step, made = result["images_per_second"], result["input_images_per_second"]
    rates = f"the loader makes {made:.4g} images/s, the step takes {step:.4g}"
    if made < step:
        return "input", (
            f"{rates}: try more data.workers, smaller image files, or data.cache for a small set"
        )
    if jax.default_backend() == "cpu":
        return "step", f"{rates}; both share the cores, so that training is slower than either"
    return "step", f"{rates}: a larger data.batch_size may fill the devices better"


def _device() -> str:
    kind, count = jax.devices()[0].device_kind, jax.device_count()
    if jax.default_backend() == "cpu":
        kind = f"cpu, {processes.cores()} cores"
    return f"{kind} x {count}" if count > 1 else kind

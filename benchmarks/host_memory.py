"""What keeping freed memory is worth to a CPU step (`mae_jax.train.host`).

    python benchmarks/host_memory.py

Steps of configs/digits.py with and without it, in processes of their own, alternating; prints the
milliseconds of both and their ratio. Needs the `digits` and `tensorflow` extras.
"""

import importlib.util
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS, WARM_UP, STEPS = 4, 10, 100


def measure(keep: bool) -> float:
    """Milliseconds a step takes in this process."""
    import jax
    import numpy as np

    from mae_jax import parallel
    from mae_jax.train import host, loop, state
    from mae_jax.train.step import train_step

    if keep:
        host.keep_freed_memory()
    path = Path(__file__).parents[1] / "configs" / "digits.py"
    spec = importlib.util.spec_from_file_location("digits", path)
    digits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(digits)
    config = digits.get_config()
    mesh = parallel.make_mesh()
    task = loop.prepare(config, mesh.devices.size)
    current = state.create(task.objective, task.recipe, 0, mesh)
    shape = (config.data.batch_size, *config.model.image_size, config.model.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    batch = parallel.put_batch({"image": images, "label": np.zeros(shape[0], np.int32)}, mesh)
    for index in range(WARM_UP + STEPS):
        if index == WARM_UP:
            jax.block_until_ready(current)
            start = time.perf_counter()
        current, _ = train_step(
            current, batch, np.uint32(0), objective=task.objective, recipe=task.recipe
        )
    jax.block_until_ready(current)
    return (time.perf_counter() - start) / STEPS * 1e3


def main() -> None:
    times: dict[str, list[float]] = {"keep": [], "default": []}
    for _ in range(ROUNDS):
        for side, values in times.items():
            out = subprocess.check_output([sys.executable, __file__, side], text=True)
            values.append(float(out.splitlines()[-1]))
    ratios = [a / b for a, b in zip(times["default"], times["keep"], strict=True)]
    for side, values in times.items():
        print(f"{side:8s} {statistics.median(values):7.2f} ms a step")
    print(
        f"ratio    {statistics.median(ratios):7.2f} (from {min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(sys.argv[1] == "keep"))
    else:
        main()

"""What a plan says of memory and operations, against a run on this machine.

    python benchmarks/plan_vs_run.py [--size=base] [--batch=16]

The state's bytes are computed from shapes, as `mae-jax plan` does; the peak is the compiler's; the
operations are by arithmetic. Beside them: the bytes that the arrays of the run have, the memory the
process takes at most while it trains, and the operations that XLA counts in the compiled step.
"""

import argparse
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from mae_jax import parallel
from mae_jax.config import default_config
from mae_jax.models import flops
from mae_jax.parallel import Layout, Split
from mae_jax.train import state, step
from mae_jax.train.objectives import Reconstruct
from mae_jax.train.optimizer import Recipe


def resident() -> int:
    """Bytes of memory the process has now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmRSS")


class Watch(threading.Thread):
    """The most memory the process had while this ran."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most, self.stop = 0, False

    def run(self):
        while not self.stop:
            self.most = max(self.most, resident())
            time.sleep(0.005)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="base")
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    config = default_config()
    config.model.size, config.data.batch_size = args.size, args.batch
    config.train.epochs = 1.0
    objective = Reconstruct.from_config(config)
    d = objective.dimensions
    recipe = Recipe.from_config(
        config, steps=100, steps_per_epoch=100, undecayed=objective.undecayed, depth=d.depth
    )
    layout = Layout.of(Split(), jax.devices()[:1])
    template = state.abstract(objective, recipe, layout)
    planned_state = parallel.bytes_per_device(template, layout.state(template))
    batch = {
        "image": jnp.zeros((args.batch, *d.image_size, d.channels), jnp.uint8),
        "label": jnp.zeros(args.batch, jnp.int32),
    }
    seed = jnp.uint32(0)
    fixed = dict(objective=objective, recipe=recipe, layout=layout)
    compiled = step.lowered(template, batch, seed, **fixed).compile()
    made = state.create(objective, recipe, 0, layout)
    memory = compiled.memory_analysis()
    planned_peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    before = resident() - sum(x.nbytes for x in jax.tree.leaves(made))
    watch = Watch()
    watch.start()
    for _ in range(3):
        made, numbers = compiled(made, batch, seed, recipe.rates())
        jax.block_until_ready(numbers)
    watch.stop = True
    watch.join()
    rows = [
        ("state, MB", planned_state / 1e6, sum(x.nbytes for x in jax.tree.leaves(made)) / 1e6),
        ("peak of a step, MB", planned_peak / 1e6, (watch.most - before) / 1e6),
        (
            "operations of a step, GFLOP",
            args.batch * flops.training_flops(d, mask_ratio=config.model.mask_ratio) / 1e9,
            compiled.cost_analysis()["flops"] / 1e9,
        ),
    ]
    print(f"{args.size}, batch {args.batch}, {jax.devices()[0].device_kind}")
    print(f"{'':28s} {'planned':>12s} {'run':>12s} {'run / planned':>14s}")
    for name, planned, found in rows:
        print(f"{name:28s} {planned:12,.1f} {found:12,.1f} {found / planned:14.3f}")


if __name__ == "__main__":
    main()

"""What it costs that an update is not made where its loss or gradient is not finite.

    python benchmarks/skipping.py [--size=base] [--batch=64] [--rounds=5]

The step as it is and without that choice, as two programs of one process, in turns.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from mae_jax.config import default_config
from mae_jax.parallel import Layout, Split
from mae_jax.train import state, step
from mae_jax.train.objectives import Reconstruct
from mae_jax.train.optimizer import Recipe


class Side:
    """A program, and the state that it moves on.

    Args:
      choose: as `step._if`, which it takes the place of while this is compiled.
    """

    def __init__(self, config, objective, recipe, choose=None):
        layout = Layout.of(Split(), jax.devices()[:1])
        rng = np.random.default_rng(0)
        d = objective.dimensions
        shape = (config.data.batch_size, *d.image_size, d.channels)
        given = {
            "image": rng.integers(0, 256, shape, np.uint8),
            "label": np.zeros(shape[0], np.int32),
        }
        self._batch = step.put(given, layout, config.data.batch_size)
        self._state = state.create(objective, recipe, 0, layout)
        self._rates = recipe.rates()
        usual = step._if
        step._if = choose or usual
        step._compiled_for.cache_clear()
        jax.clear_caches()
        self._program = step.lowered(
            self._state,
            self._batch,
            np.uint32(0),
            objective=objective,
            recipe=recipe,
            layout=layout,
        ).compile()
        step._if = usual

    def seconds(self) -> float:
        """Of one step."""
        began = time.perf_counter()
        self._state, numbers = self._program(self._state, self._batch, np.uint32(0), self._rates)
        jax.block_until_ready((self._state, numbers))
        return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="base")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = default_config()
    config.model.size, config.data.batch_size = options.size, options.batch
    objective = Reconstruct.from_config(config)
    recipe = Recipe.from_config(
        config, steps=10_000, steps_per_epoch=100.0, undecayed=objective.undecayed, depth=1
    )
    sides = {
        "as it is": Side(config, objective, recipe),
        "without the choice": Side(config, objective, recipe, lambda made, new, old: new),
    }
    taken = {name: [] for name in sides}
    for _ in range(options.rounds + 1):
        for name, side in sides.items():
            taken[name].append(side.seconds())
    for name, values in taken.items():
        del values[0]  # the first of each warms up
        print(f"{name:20s} {statistics.median(values):7.3f} s   {min(values):.3f} at least")
    one, other = taken.values()
    ratios = [a / b for a, b in zip(one, other, strict=True)]
    print(
        f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), "
        f"of the least {min(one) / min(other):.3f}"
    )


if __name__ == "__main__":
    main()

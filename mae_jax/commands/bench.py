"""mae-jax bench."""

from typing import Any

from mae_jax.commands import configs
from mae_jax.commands.verb import Flag, Verb


def bench(
    config: configs.Config, *, overrides: configs.Overrides = None, steps: int = 20
) -> dict[str, Any]:
    """Time training on this machine, and say what limits it.

    Args, Returns and Raises: as of `planning.bench.bench`; `overrides` are values of config keys.
    """
    from mae_jax.planning import bench as bencher

    return bencher.bench(configs.read(config, overrides=overrides), steps=steps)


VERB = Verb(
    bench,
    place=10,
    usage="--config=FILE [--steps=N]",
    example="--config=configs/digits.py",
    config="needed",
    flags=(Flag("steps", "N", "how many of each kind are timed"),),
)

"""mae-jax bench."""

import datetime
from typing import Any

from mae_jax.commands import configs
from mae_jax.commands.verb import Flag, Verb, text


def bench(
    config: configs.Config, *, overrides: configs.Overrides = None, steps: int = 20
) -> dict[str, Any]:
    """Time training on this machine, and say what limits it.

    Args, Returns and Raises: as of `planning.bench.bench`; `overrides` are values of config keys.
    """
    from mae_jax.planning import bench as bencher

    return bencher.bench(configs.read(config, overrides=overrides), steps=steps)


def _text(result):
    result = dict(result)
    steps, seconds = (result.pop(f"training_{unit}") for unit in ("steps", "seconds"))
    took = datetime.timedelta(seconds=round(seconds))
    return (
        f"{text(result)}\nall of training: {steps} steps in about {took} on this machine, without "
        "evaluation and saving"
    )


VERB = Verb(
    bench,
    place=10,
    usage="--config=FILE [--steps=N]",
    example="--config=configs/digits.py",
    config="needed",
    flags=(Flag("steps", "N", "how many of each kind are timed"),),
    text=_text,
)

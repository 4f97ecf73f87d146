"""mae-jax plan."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mae_jax.commands import configs
from mae_jax.commands.verb import Flag, Verb


def plan(
    config: configs.Config,
    topology: Sequence[str],
    *,
    overrides: configs.Overrides = None,
    images: int | None = None,
    compare: bool = False,
    typed: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Say whether a run fits TPUs that are not there, and how long it takes.

    Args:
      config: of pre-training.
      topology: chips and how they lie, such as "v3:8x8"; several are planned one after the other.
      overrides: values of config keys, as of `commands.configs.read`.
      images: to train on, where the config's data is not at hand.
      compare: rank ways of sharding and recomputing.
      typed: what says the config on a command line, as in ("--config=FILE", "--config.seed=1"); not
        needed of a config that is given as a path.

    Returns:
      An object per topology, or per choice that was compared. In `launch` are the commands that
      start it there, by the file of launch/ that they call; None where it is not known to fit.

    Raises:
      As `planning.search.run`.
    """
    import dataclasses

    from mae_jax.planning import launch, search
    from mae_jax.weights import start

    if typed is None and isinstance(config, str | Path):
        changed = (f"--config.{name}={value}" for name, value in (overrides or {}).items())
        typed = (f"--config={config}", *changed)
    config = configs.read(config, overrides=overrides)
    start.adopt(config)
    found = search.run(config, list(topology), images, compare)
    return [dataclasses.asdict(e) | {"launch": launch.of_estimate(e, typed)} for e in found]


def _text(result):
    from mae_jax.planning import launch, report
    from mae_jax.planning.estimate import Estimate

    estimates = [Estimate(**{k: v for k, v in given.items() if k != "launch"}) for given in result]
    lines, best = [report.readable(estimates)], launch.recommended(estimates)
    if best is not None:
        commands = result[estimates.index(best)]["launch"]
        lines += [launch.text(best, commands)] if commands is not None else []
    return "\n\n".join(lines)


VERB = Verb(
    plan,
    place=11,
    usage="--config=FILE --topology=CHIP:AxB[,CHIP:AxBxC] [--images=N] [--compare]",
    example="--config=configs/in1k/l16.py --topology=v3:8x8,v5p:4x4x4",
    config="needed",
    flags=(
        Flag("topology", "CHIP:AxB", "chips and how they lie"),
        Flag("images", "N", "to train on, where the config's data is not at hand"),
        Flag("compare", "", "rank ways of sharding and recomputing"),
    ),
    computes=False,
    text=_text,
)

"""mae-jax plan."""

from collections.abc import Sequence
from typing import Any

from mae_jax.commands import configs
from mae_jax.commands.verb import Flag, Verb


def plan(
    config: configs.Config,
    topology: Sequence[str],
    *,
    images: int | None = None,
    compare: bool = False,
) -> list[dict[str, Any]]:
    """Say whether a run fits TPUs that are not there, and how long it takes.

    Args:
      config: of pre-training.
      topology: chips and how they lie, such as "v3:8x8"; several are planned one after the other.
      images: to train on, where the config's data is not at hand.
      compare: rank ways of sharding and recomputing.

    Returns:
      An object per topology, or per choice that was compared.

    Raises:
      As `plan.search.run`.
    """
    import dataclasses

    from mae_jax.plan import search

    found = search.run(configs.read(config), list(topology), images, compare)
    return [dataclasses.asdict(estimate) for estimate in found]


def _text(result):
    from mae_jax.plan import report
    from mae_jax.plan.estimate import Estimate

    return report.readable([Estimate(**estimate) for estimate in result])


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

"""mae-jax plan."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mae_jax.commands import configs
from mae_jax.commands.verb import Flag, Verb
from mae_jax.errors import UsageError


def plan(
    config: configs.Config,
    topology: Sequence[str] = (),
    *,
    scaling: Sequence[str] = (),
    plot: str | Path | None = None,
    overrides: configs.Overrides = None,
    images: int | None = None,
    classes: int | None = None,
    job: str = "train",
    compare: bool = False,
    typed: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Say whether a run fits TPUs that are not there, and how long it takes.

    Args:
      config: of pre-training, of fine-tuning or of a linear probe.
      topology: chips and how they lie, such as "v3:8x8"; several are planned one after the other.
      scaling: topologies instead, of more and more devices, with as many images on each device as
        the config's batch has on the first.
      plot: file for a picture of how it scales.
      overrides: values of config keys, as of `commands.configs.read`.
      images: to train on, where the config's data is not at hand.
      classes: of a classifier, where the config's data is not at hand.
      job: "train"; "evaluate", the evaluation in it, one pass over the images in batches of the
        config's size; or "embed", one of `mae-jax embed --shard`, in which hosts share the images.
      compare: rank ways of sharding and recomputing.
      typed: what says the config on a command line, as in ("--config=FILE", "--config.seed=1"); not
        needed of a config that is given as a path.

    Returns:
      An object per topology, or per choice that was compared. In `launch` are the commands that
      start it there, by the file of launch/ that they call; None where it is not known to fit. Of
      what was scaled there is `scaling` instead; see `planning.scaling.Scaled`.

    Raises:
      As `planning.search.run` or `planning.scaling.run`; UsageError, too, unless either `topology`
      or `scaling` is given.
    """
    from mae_jax.planning import launch, search
    from mae_jax.weights import start

    if bool(topology) == bool(scaling):
        raise UsageError("either --topology or --scaling is needed, as in --topology=v3:8x8")
    if plot is not None and not scaling:
        raise UsageError(f"--plot {str(plot)!r} goes with --scaling")
    if typed is None and isinstance(config, str | Path):
        changed = (f"--config.{name}={value}" for name, value in (overrides or {}).items())
        typed = (f"--config={config}", *changed)
    config = configs.read(config, overrides=overrides)
    start.adopt(config)
    if scaling:
        if compare or job != "train":
            raise UsageError("--scaling is of training, and goes without --compare and --job")
        return _scaled(config, list(scaling), images, classes, plot)
    found = search.run(
        config, list(topology), images=images, classes=classes, ranked=compare, job=job
    )
    if job != "train":  # what launch/ starts is training
        typed = None
    verb = {"classify": "finetune", "probe": "probe"}.get(config.train.objective, "pretrain")
    return [dataclasses.asdict(e) | {"launch": launch.of_estimate(e, typed, verb)} for e in found]


def _scaled(config, names, images, classes, plot):
    from mae_jax.planning import scaling
    from mae_jax.planning.data import counted
    from mae_jax.visualize import scaling as picture

    found = scaling.run(config, names, counted(config, images, classes))
    if plot is not None:
        shares = {
            "no collective behind computing": [s.exposed for _, s in found],
            "all that can be": [s.hidden for _, s in found],
        }
        picture.draw([e.devices for e, _ in found], shares, plot)
    return [dataclasses.asdict(e) | {"scaling": dataclasses.asdict(s)} for e, s in found]


def _text(result):
    from mae_jax.planning import launch, report, scaling
    from mae_jax.planning.estimate import Estimate

    more = ("launch", "scaling")
    estimates = [Estimate(**{k: v for k, v in given.items() if k not in more}) for given in result]
    if "scaling" in result[0]:
        scaled = [scaling.Scaled(**given["scaling"]) for given in result]
        return scaling.table(list(zip(estimates, scaled, strict=True)))
    lines, best = [report.readable(estimates)], launch.recommended(estimates)
    if best is not None:
        commands = result[estimates.index(best)]["launch"]
        lines += [launch.text(best, commands)] if commands is not None else []
    return "\n\n".join(lines)


VERB = Verb(
    plan,
    place=11,
    usage="--config=FILE --topology=CHIP:AxB[,CHIP:AxBxC]|--scaling=CHIP:AxB,CHIP:CxD "
    "[--images=N] [--classes=N] [--job=train|evaluate|embed] [--compare] [--plot=FILE]",
    example="--config=configs/in1k/l16.py --topology=v3:8x8,v5p:4x4x4",
    config="needed",
    flags=(
        Flag("topology", "CHIP:AxB", "chips and how they lie"),
        Flag("scaling", "CHIP:AxB,…", "more and more devices, with as many images on each"),
        Flag("plot", "FILE", "a picture of how it scales"),
        Flag("images", "N", "to train on, where the config's data is not at hand"),
        Flag("classes", "N", "of a classifier, where the config's data is not at hand"),
        Flag(
            "job", "NAME", "train; evaluate or embed, one pass over the images, in a run or after"
        ),
        Flag("compare", "", "rank ways of sharding and recomputing"),
    ),
    computes=False,
    text=_text,
)

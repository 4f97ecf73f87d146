"""Plans of runs: what fits, what is faster, and the smallest change where nothing does."""

import copy
import dataclasses
import datetime
import json
import time
from collections.abc import Iterator

import jax

from mae_jax import parallel
from mae_jax.config.architecture import dimension_arguments
from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.models import sizes
from mae_jax.planning import chips, topology
from mae_jax.planning.data import Data, counted
from mae_jax.planning.estimate import JOBS, Estimate, estimate
from mae_jax.train import host_memory


def run(
    config,
    names: list[str],
    *,
    images: int | None = None,
    classes: int | None = None,
    ranked: bool = False,
    job: str = "train",
) -> list[Estimate]:
    """Plans a job for several topologies; says how far it is, as that takes minutes.

    Args:
      names: as in v3:8x8; all are checked before anything is compiled.
      images: an epoch has; None asks the data, as it does for `classes`.
      ranked: compare ways to split and to store, instead of taking the config's.
      job: one of `estimate.JOBS`.

    Raises:
      UsageError: a topology, a job or a config that cannot work.
    """
    if job not in JOBS:
        raise UsageError(f"job {job!r} is unknown; known are {', '.join(JOBS)}")
    if ranked and job == "embed":
        raise UsageError("--compare is of training and evaluation; mae-jax embed has one way")
    for name in names:
        topology.devices(name)
    data = counted(config, images, classes)
    found = []
    for name in names:
        began = time.perf_counter()
        say(f"{name}: compiling a step, which takes minutes for large models")
        if ranked:
            found += compare(config, name, data, job)
        else:
            found.append(plan(config, name, data, job))
        say(f"{name}: compiled in {time.perf_counter() - began:.0f} s")
    return found


def plan(config, name: str, data: Data, job: str = "train") -> Estimate:
    """An estimate; of a job that does not fit, with the smallest change that makes it fit."""
    found = compiled(config, name, data, (), job)
    if found.fits:
        return found
    say(
        f"{name}: does not fit, needs {found.memory_gb:.2f} of {found.usable_gb:.2f} GB; "
        "looking for the smallest change that fits"
    )
    for changes in _remedies(config, found.devices // topology.parse(name).slices, job):
        say(f"{name}: trying {' '.join(changes)}")
        try:
            tried = compiled(changed(config, changes), name, data, changes, job)
        except UsageError:
            continue
        if tried.fits:
            return dataclasses.replace(found, suggestion=" ".join(changes))
    return found


def compare(config, name: str, data: Data, job: str = "train") -> list[Estimate]:
    """Estimates of several ways to split and to store, the fastest that fits first."""
    found = []
    joined = len(topology.devices(name)) // topology.parse(name).slices
    choices = list(_choices(config, topology.chip(name), joined))
    began = time.perf_counter()
    for i, changes in enumerate(choices):
        eta = "?"
        if i:
            left = (time.perf_counter() - began) / i * (len(choices) - i)
            eta = datetime.timedelta(seconds=round(left))
        say(f"{name}: {i + 1} of {len(choices)}, {' '.join(changes)}  eta {eta}")
        try:
            found.append(compiled(changed(config, changes), name, data, changes, job))
        except UsageError as error:
            say(f"{name}: {error}")
    return sorted(found, key=lambda e: (not e.fits, e.step_seconds or 0, e.memory_gb))


def compiled(*arguments) -> Estimate:
    """As `estimate.estimate`, and nothing stays of the compiler's memory."""
    try:
        return estimate(*arguments)
    finally:
        # The compiler takes gigabytes, and the next time it would take as many beside them.
        jax.clear_caches()
        host_memory.give_back()


def changed(config, changes: tuple[str, ...]):
    """A copy of a config with `--config.KEY=VALUE` applied."""
    config = copy.deepcopy(config)
    for change in changes:
        key, value = change.removeprefix("--config.").split("=")
        section, name = key.split(".")
        config[section][name] = json.loads(value.lower())
    return config


def _remedies(config, devices: int, job: str) -> Iterator[tuple[str, ...]]:
    """Changes that may make a job fit, the smallest first; `devices` are those of a slice."""
    if job == "embed":  # which has its own batch and split, whatever the config says
        return
    given, usual = config.parallel.fsdp, _usual_parts(config, devices)
    if config.parallel.zero or (given is not None and given < usual):
        yield (f"--config.parallel.fsdp={usual}", "--config.parallel.zero=False")
    if job == "train" and not config.model.remat:
        yield ("--config.model.remat=True",)
    for parts in (2, 4, 8) if job == "train" else ():
        yield (f"--config.train.accumulate={parts * config.train.accumulate}",)
    for share in (2, 4, 8):
        yield (f"--config.data.batch_size={config.data.batch_size // share}",)


def _usual_parts(config, devices):
    widths = sizes.resolve(**dimension_arguments(config)).widths
    return parallel.usual_parts(devices // config.parallel.tensor, widths)


def _choices(config, chip: chips.Chip, devices: int) -> Iterator[tuple[str, ...]]:
    """Ways to split and to store; `devices` are those of a slice."""
    parts = sorted({1, _usual_parts(config, devices), chip.per_host, devices})
    splits = [(n, False) for n in parts if devices % n == 0]
    if devices > 1:
        splits.insert(1, (1, True))
    for n, zero in splits:
        for remat in (False, True):
            yield (
                f"--config.parallel.fsdp={n}",
                f"--config.parallel.zero={zero}",
                f"--config.model.remat={remat}",
            )

"""Plans of runs: what fits, what is faster, and the smallest change where nothing does."""

import copy
import dataclasses
import datetime
import json
import time
from collections.abc import Iterator

import jax

from mae_jax import parallel
from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.planning import chips, topology
from mae_jax.planning.estimate import Estimate, estimate, images_of
from mae_jax.train import host_memory
from mae_jax.train.objectives import Reconstruct


def run(config, names: list[str], images: int | None, ranked: bool) -> list[Estimate]:
    """Plans a config for several topologies; says how far it is, as that takes minutes.

    Args:
      names: as in v3:8x8; all are checked before anything is compiled.
      images: to train on, per epoch; None asks the data.
      ranked: compare ways to split and to store, instead of taking the config's.

    Raises:
      UsageError: a topology or a config that cannot work.
    """
    for name in names:
        topology.devices(name)
    images = images_of(config) if images is None else images
    found = []
    for name in names:
        began = time.perf_counter()
        say(f"{name}: compiling the training step, which takes minutes for large models")
        if ranked:
            found += compare(config, name, images)
        else:
            found.append(plan(config, name, images))
        say(f"{name}: compiled in {time.perf_counter() - began:.0f} s")
    return found


def plan(config, name: str, images: int) -> Estimate:
    """An estimate; of a run that does not fit, with the smallest change that makes it fit."""
    found = _estimate(config, name, images)
    if found.fits:
        return found
    say(
        f"{name}: does not fit, needs {found.memory_gb:.2f} of {found.usable_gb:.2f} GB; "
        "looking for the smallest change that fits"
    )
    for changes in _remedies(config, found.devices):
        say(f"{name}: trying {' '.join(changes)}")
        try:
            tried = _estimate(changed(config, changes), name, images, changes)
        except UsageError:
            continue
        if tried.fits:
            return dataclasses.replace(found, suggestion=" ".join(changes))
    return found


def compare(config, name: str, images: int) -> list[Estimate]:
    """Estimates of several ways to split and to store, the fastest that fits first."""
    found = []
    choices = list(_choices(config, topology.chip(name), len(topology.devices(name))))
    began = time.perf_counter()
    for i, changes in enumerate(choices):
        eta = "?"
        if i:
            left = (time.perf_counter() - began) / i * (len(choices) - i)
            eta = datetime.timedelta(seconds=round(left))
        say(f"{name}: {i + 1} of {len(choices)}, {' '.join(changes)}  eta {eta}")
        try:
            found.append(_estimate(changed(config, changes), name, images, changes))
        except UsageError as error:
            say(f"{name}: {error}")
    return sorted(found, key=lambda e: (not e.fits, e.step_seconds or 0, e.memory_gb))


def _estimate(*arguments) -> Estimate:
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


def _remedies(config, devices: int) -> Iterator[tuple[str, ...]]:
    given, usual = config.parallel.fsdp, _usual_parts(config, devices)
    if config.parallel.zero or (given is not None and given < usual):
        yield (f"--config.parallel.fsdp={usual}", "--config.parallel.zero=False")
    if not config.model.remat:
        yield ("--config.model.remat=True",)
    for parts in (2, 4, 8):
        yield (f"--config.train.accumulate={parts * config.train.accumulate}",)
    for share in (2, 4, 8):
        yield (f"--config.data.batch_size={config.data.batch_size // share}",)


def _usual_parts(config, devices):
    widths = Reconstruct.from_config(config).dimensions.widths
    return parallel.usual_parts(devices // config.parallel.tensor, widths)


def _choices(config, chip: chips.Chip, devices: int) -> Iterator[tuple[str, ...]]:
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

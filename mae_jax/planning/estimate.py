"""Whether a job fits a TPU topology, how long it takes and what limits it.

The real step is compiled for the topology by the real compiler; nothing is run. Memory is exact,
time is the compiler's estimate, and what collectives take follows from their sizes and the links'
data sheet.
"""

import copy
import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp

from mae_jax import config as config_lib
from mae_jax import parallel, pixels
from mae_jax.config.architecture import dimension_arguments, settled_model
from mae_jax.errors import UsageError
from mae_jax.models import flops, sizes
from mae_jax.parallel import Layout
from mae_jax.planning import program, topology
from mae_jax.planning.data import Data
from mae_jax.train import state, step
from mae_jax.train.classify import Classify
from mae_jax.train.objectives import Objective
from mae_jax.train.optimizer import Recipe
from mae_jax.train.task import objective_of, split_of
from mae_jax.weights import pretrained

# What can be planned: a config's training; the evaluation in it, a pass over images on all of its
# devices; or `mae-jax embed --shard`, in which hosts share the images.
JOBS = ("train", "evaluate", "embed")
_METHODS = {"evaluate": "measure", "embed": "features"}  # of an objective


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is known of a run on a topology. Times are None where the run does not fit.

    Attributes:
      topology, devices, device_kind: what it would run on.
      changes: keys that differ from the config, as on the command line.
      split: how devices are used.
      fits: whether the step compiles into the memory of a device.
      memory_gb: peak per device, 1e9 bytes; `usable_gb` of it can be had.
      parameters_gb, optimizer_gb, activations_gb: what the peak is made of, per device.
      flops_per_step: analytic, of products alone, over all devices.
      step_seconds: compute alone, by the compiler's estimate.
      parts: the same by what it is spent on.
      collectives: kind, network (ici within a slice, dcn between several), count, gigabytes that a
        device receives, and seconds.
      collective_seconds: all of them, if none overlaps with computation.
      peak_share: share of the devices' peak that the compute alone would reach.
      hours_per_epoch, hours: of compute; `hours_with_collectives` adds them without overlap.
      images_per_second_per_host: what each host must decode.
      suggestion: the smallest change found with which it fits.
    """

    topology: str
    devices: int
    device_kind: str
    changes: tuple[str, ...]
    split: str
    fits: bool
    memory_gb: float
    usable_gb: float
    parameters_gb: float
    optimizer_gb: float
    activations_gb: float | None
    flops_per_step: float
    step_seconds: float | None = None
    parts: dict[str, float] | None = None
    collectives: tuple[dict[str, Any], ...] = ()
    collective_seconds: float | None = None
    peak_share: float | None = None
    hours_per_epoch: float | None = None
    hours: float | None = None
    hours_with_collectives: float | None = None
    images_per_second_per_host: float | None = None
    suggestion: str | None = None


def estimate(
    config, name: str, data: Data, changes: tuple[str, ...] = (), job: str = "train"
) -> Estimate:
    """Compiles a step of a job for a topology.

    Args:
      config: see `mae_jax.config`.
      name: as in v3:8x8.
      data: what an epoch has.
      changes: what was changed in the config, to be said.
      job: one of `JOBS`. One that is not training goes over the images once: an evaluation in
        batches of the config's size, `embed` in its own.

    Raises:
      UsageError: the config cannot work, on this number of devices or at all.
    """
    config = _for_tpu(config)
    config_lib.validate(config)
    if config.train.teacher is not None:
        raise UsageError(
            f"plan is for runs without a teacher; train.teacher is {config.train.teacher!r}"
        )
    chip, devices = topology.chip(name), topology.devices(name)
    count = len(devices)
    hosts = max(1, count // chip.per_host)
    alone = 1  # groups of devices, each of which works by itself
    if job == "embed":
        alone, devices = hosts, topology.devices(topology.of_a_host(name))
        _as_embed(config, len(devices))
    objective = objective_of(config, data.classes)
    d, batch_size = objective.dimensions, config.data.batch_size
    steps_per_epoch = data.images * config.data.repeats / batch_size
    steps = config.train.steps or max(1, round(config.train.epochs * steps_per_epoch))
    recipe = Recipe.from_config(
        config,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        undecayed=objective.undecayed,
        depth=d.depth,
    )
    slices = parallel.slices_of(devices)
    split = split_of(config, objective, recipe, len(devices), slices)
    layout = Layout.of(split, devices)
    template = state.abstract(objective, recipe, layout)
    shardings = layout.state(template)
    parameters = parallel.bytes_per_device(template.params, shardings.params)
    optimizer = parallel.bytes_per_device(template.opt_state, shardings.opt_state)
    work = batch_size * (objective.flops if job == "train" else _flops(objective, job))
    if job != "train":
        steps_per_epoch = steps = data.images / (batch_size * alone)
        optimizer = 0
    known = dict(
        topology=name,
        devices=count,
        device_kind=chip.kind,
        changes=changes,
        split=str(split),
        usable_gb=chip.usable / 1e9,
        parameters_gb=parameters / 1e9,
        optimizer_gb=optimizer / 1e9,
        flops_per_step=work * alone,
    )
    batch = {
        "image": jax.ShapeDtypeStruct(
            step.rows_of((batch_size, *d.image_size, d.channels)),
            jnp.float32 if config.data.pixels == "float32" else jnp.uint8,
            sharding=layout.per_sample,
        ),
        "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32, sharding=layout.per_sample),
    }
    common = dict(objective=objective, layout=layout)
    if job == "train":
        seed = jax.ShapeDtypeStruct((), jnp.uint32, sharding=layout.replicated)
        accumulate = config.train.accumulate
        lowered = step.lowered(
            template, batch, seed, recipe=recipe, accumulate=accumulate, **common
        )
    else:
        key = jax.eval_shape(lambda: jax.random.key(0))
        lowered = step.lowered_pass(template, batch, key, method=_METHODS[job], **common)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        needed = re.search(r"Used ([\d.]+)([KMGT]) of", str(error))
        if "RESOURCE_EXHAUSTED" not in str(error) or needed is None:
            raise
        size = float(needed.group(1)) * 1024 ** ("KMGT".index(needed.group(2)) + 1)
        return Estimate(fits=False, memory_gb=size / 1e9, activations_gb=None, **known)
    peak = compiled.memory_analysis().peak_memory_in_bytes
    fits = peak <= chip.usable
    taken = program.read(compiled.as_text())
    step_seconds = sum(taken.cycles.values()) / chip.clock
    collectives = tuple(
        dict(
            kind=c.kind,
            network=c.network,
            count=c.count,
            gb=c.bytes / 1e9,
            seconds=c.bytes / getattr(chip, c.network),
        )
        for c in taken.collectives
    )
    waiting = sum(c["seconds"] for c in collectives)
    return Estimate(
        fits=fits,
        memory_gb=peak / 1e9,
        activations_gb=(peak - parameters - optimizer) / 1e9,
        step_seconds=step_seconds,
        parts={part: cycles / chip.clock for part, cycles in taken.cycles.items()},
        collectives=collectives,
        collective_seconds=waiting,
        peak_share=work / (step_seconds * len(devices) * chip.flops),
        hours_per_epoch=steps_per_epoch * step_seconds / 3600,
        hours=steps * step_seconds / 3600,
        hours_with_collectives=steps * (step_seconds + waiting) / 3600,
        images_per_second_per_host=batch_size * alone / step_seconds / hosts,
        **known,
    )


def _for_tpu(config):
    """What `auto` and unset keys mean on a TPU, wherever this runs."""
    config = copy.deepcopy(config)
    if config.model.dtype == "auto":
        config.model.dtype = "bfloat16"
    config.model.update(settled_model(config))
    pixels.settle(config)
    return config


def _as_embed(config, devices: int) -> None:
    """Sets what `weights.pretrained` does: the whole encoder on every device, in float32."""
    d = sizes.resolve(**dimension_arguments(config))
    tokens = d.patches + int(config.model.class_token) * config.model.class_tokens
    config.data.batch_size = pretrained.images_at_a_time(tokens) * devices
    config.model.dtype, config.train.accumulate = "float32", 1
    config.parallel.update(fsdp=1, tensor=1, zero=False)


def _flops(objective: Objective, job: str) -> int:
    """Operations per image of a pass over images."""
    d, given = objective.dimensions, dict(objective.arguments)
    encoder = flops.encoder_flops(d, class_token=given["class_token"])
    if job == "embed":
        return encoder
    if isinstance(objective, Classify):
        return encoder + 2 * d.width * objective.classes
    # Of every patch, and forward alone.
    whole = given | {"loss_on": "all", "decode_ratio": 1.0}
    return dataclasses.replace(objective, arguments=tuple(sorted(whole.items()))).flops // 3

"""How a planned run is started: what its slice is called, and the commands of launch/."""

import dataclasses
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from mae_jax.planning import topology
from mae_jax.planning.estimate import Estimate


@dataclasses.dataclass(frozen=True)
class _Offer:
    """A TPU generation as Google Cloud offers it.

    Attributes:
      prefix: of the names of its slices; what follows counts `counted` a chip.
      runtime: software that a TPU VM starts with.
      accelerator: what GKE calls it; None where it has none.
    """

    prefix: str
    counted: int
    runtime: str
    accelerator: str | None


# Runtimes: cloud.google.com/tpu/docs/runtimes. The rest as in XPK 1.16.
_OFFERS = {
    "v3": _Offer("v3", 2, "tpu-ubuntu2204-base", None),
    "v4": _Offer("v4", 2, "tpu-ubuntu2204-base", "tpu-v4-podslice"),
    "v5e": _Offer("v5litepod", 1, "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice"),
    "v5p": _Offer("v5p", 2, "v2-alpha-tpuv5", "tpu-v5p-slice"),
    "v6e": _Offer("v6e", 1, "v2-alpha-tpuv6e", "tpu-v6e-slice"),
}
# The shape that so many chips get where it is not said; others can be had of GKE alone.
_USUAL = frozenset(
    {"1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16", "16x32", "32x32"}
    | {"2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8"}
    | {"8x8x12", "8x8x16", "8x16x16"}
)


@dataclasses.dataclass(frozen=True)
class Slice:
    """What a topology is called where it is asked for.

    Attributes:
      type: of a TPU VM, and of XPK; None where the chips lie in another shape than it would give.
      runtime: software of a TPU VM.
      accelerator: of GKE; None where it offers none.
      shape: its topology in GKE.
      hosts, chips_per_host: of GKE.
      slices: how many of them are joined.
    """

    type: str | None
    runtime: str
    accelerator: str | None
    shape: str
    hosts: int
    chips_per_host: int
    slices: int


def slice_of(name: str) -> Slice:
    """The names of a topology such as v5e:8x8; raises as `topology.parse`."""
    slices, kind, shape = topology.parse(name)
    offer, chips = _OFFERS[kind], math.prod(map(int, shape.split("x")))
    per_host = min(chips, 4)
    return Slice(
        type=f"{offer.prefix}-{offer.counted * chips}" if shape in _USUAL else None,
        runtime=offer.runtime,
        accelerator=offer.accelerator,
        shape=shape,
        hosts=chips // per_host,
        chips_per_host=per_host,
        slices=slices,
    )


def commands(name: str, typed: Sequence[str], verb: str = "pretrain") -> dict[str, str]:
    """Commands that start a run on a topology, by the file of launch/ that they call.

    Args:
      name: of the topology.
      typed: what says the config, as in ("--config=configs/in1k/l16.py", "--config.seed=1").
      verb: that the run is of.

    Returns:
      Each in two lines, the first with words in capitals where only the reader knows a value.
    """
    found, run = slice_of(name), _name(typed)
    words = [run, verb, *typed, f"--workdir=/bucket/runs/{run}"]
    settings = {}
    if found.type and found.slices == 1:
        settings["tpu_vm.sh"] = dict(
            ZONE="ZONE", TYPE=found.type, RUNTIME=found.runtime, BUCKET="BUCKET"
        )
    if found.type and found.accelerator:
        settings["xpk.sh"] = dict(CLUSTER="CLUSTER", ZONE="ZONE", TYPE=found.type, IMAGE="IMAGE")
    if found.accelerator:
        settings["jobset.sh"] = dict(
            ACCELERATOR=found.accelerator, TOPOLOGY=found.shape, HOSTS=found.hosts,
            CHIPS=found.chips_per_host, IMAGE="IMAGE", BUCKET="BUCKET",
        )  # fmt: skip
    if found.slices > 1:
        settings = {file: given | dict(SLICES=found.slices) for file, given in settings.items()}
    return {
        file: " ".join(f"{k}={v}" for k, v in given.items())
        + f" \\\n    launch/{file} {shlex.join(words)}"
        for file, given in settings.items()
    }


def of_estimate(
    estimate: Estimate, typed: Sequence[str] | None, verb: str = "pretrain"
) -> dict[str, str] | None:
    """Commands for an estimate, with what it changed or suggests; None where nothing fits.

    Args:
      typed: as of `commands`; None where it is not known.
      verb: as of `commands`.
    """
    changes = estimate.changes if estimate.fits else (estimate.suggestion or "").split()
    if typed is None or not (estimate.fits or changes):
        return None
    return commands(estimate.topology, [*typed, *changes], verb)


def recommended(estimates: Sequence[Estimate]) -> Estimate | None:
    """The fastest that fits, else the first that would with what it suggests, else None."""
    fitting = [e for e in estimates if e.fits]
    if fitting:
        return min(fitting, key=lambda e: e.hours_with_collectives)
    return next((e for e in estimates if e.suggestion), None)


def text(estimate: Estimate, found: dict[str, str]) -> str:
    """Commands to type, and what they are for."""
    if not found:
        return f"{estimate.topology}: no name of a slice is known for chips that lie so"
    why = "" if estimate.fits else f", with {estimate.suggestion}"
    lines = [f"start it on {estimate.topology}{why} by one of these; words in capitals are yours:"]
    for command in found.values():
        lines += ["  " + line for line in command.splitlines()]
    return "\n".join(lines)


def _name(typed: Sequence[str]) -> str:
    """Of a run: its config's file, as Google Cloud takes names."""
    paths = [word.partition("=")[2] for word in typed if word.startswith("--config=")]
    stem = Path(paths[0].partition(":")[0]).stem if paths else "run"
    return "".join(c if c.isalnum() else "-" for c in stem.lower()).strip("-") or "run"

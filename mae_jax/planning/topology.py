"""TPU devices that are not there, to compile for."""

import math
import os
import re
from typing import Any, NamedTuple

from mae_jax.errors import UsageError
from mae_jax.planning import chips

# libtpu otherwise asks the cloud which machine this is, and lets one process at a time in.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v3-8",
    "TPU_MIN_LOG_LEVEL": "3",
}


class Topology(NamedTuple):
    """What a name such as 2xv5e:16x16 stands for: `slices` of so many chips of a `kind`."""

    slices: int
    kind: str
    shape: str

    @property
    def slice(self) -> str:
        """The name of one slice."""
        return f"{self.kind}:{self.shape}"


def parse(name: str) -> Topology:
    """Reads a topology's name.

    Raises:
      UsageError: no such TPU, not a topology's name, or slices that cannot be joined.
    """
    found = re.fullmatch(r"(?:([1-9]\d*)x)?([a-z]\w*):(\d+(?:x\d+)+)", name)
    if not found or found.group(2) not in chips.TPUS:
        raise UsageError(
            f"topology {name!r} is unknown; it is a TPU ({', '.join(chips.TPUS)}), a colon and "
            "its chips along each axis, as in v3:8x8 or v5p:4x4x4; several slices have their "
            "number in front, as in 2xv5e:16x16"
        )
    parsed = Topology(int(found.group(1) or 1), *found.group(2, 3))
    if parsed.slices > 1 and chips.TPUS[parsed.kind].dcn is None:
        raise UsageError(f"topology {name!r} joins slices, which {parsed.kind} does not do")
    return parsed


def of_a_host(name: str) -> str:
    """The topology of one host of another, which has four chips; raises as `parse`."""
    parsed = parse(name)
    sides = [int(side) for side in parsed.shape.split("x")]
    if math.prod(sides) <= 4:
        return parsed.slice
    return f"{parsed.kind}:{'2x2' if len(sides) == 2 else '2x2x1'}"


def chip(name: str) -> chips.Chip:
    """The kind of device of a topology; raises as `parse`."""
    return chips.TPUS[parse(name).kind]


def devices(name: str) -> list[Any]:
    """The devices of a topology, for a mesh to compile for.

    Raises:
      UsageError: libtpu is missing or knows no such topology.
    """
    parsed = parse(name)
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    import jax
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")  # a TPU that is there is not wanted
    jax.config.update("jax_enable_compilation_cache", False)  # which needs one that is
    try:
        import libtpu  # noqa: F401
    except ImportError:
        raise UsageError(
            "plan needs the TPU compiler, libtpu; `pip install 'mae_jax[plan]'` brings it"
        ) from None
    # Without this a v4 shows both cores of a chip, which JAX uses as one device.
    extra = {"chip_config_name": "megacore"} if parsed.kind == "v4" else {}
    if parsed.slices > 1:
        extra["num_slices"] = parsed.slices
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=parsed.slice, **extra)
    except Exception as error:  # libtpu's own, of several types
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"topology {name!r} cannot be had from libtpu: {reason}") from error
    return list(found.devices)

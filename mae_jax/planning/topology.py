"""TPU devices that are not there, to compile for."""

import os
import re
from typing import Any

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


def chip(name: str) -> chips.Chip:
    """The kind of device of a topology such as v3:8x8.

    Raises:
      UsageError: no such TPU, or not a topology's name.
    """
    found = re.fullmatch(r"(\w+):\d+(x\d+)+", name)
    if not found or found.group(1) not in chips.TPUS:
        raise UsageError(
            f"topology {name!r} is unknown; it is a TPU ({', '.join(chips.TPUS)}), a colon and "
            "its chips along each axis, as in v3:8x8 or v5p:4x4x4"
        )
    return chips.TPUS[found.group(1)]


def devices(name: str) -> list[Any]:
    """The devices of a topology, for a mesh to compile for.

    Raises:
      UsageError: libtpu is missing or knows no such topology.
    """
    chip(name)
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
    extra = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name, **extra)
    except Exception as error:  # libtpu's own, of several types
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"topology {name!r} cannot be had from libtpu: {reason}") from error
    return list(found.devices)

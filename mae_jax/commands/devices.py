"""Which devices JAX looks for, where it would look for one that cannot be there."""

import importlib.util
import os
from importlib import metadata
from pathlib import Path

_GOOGLE = "0x1ae0"
_DISKS_AND_NETWORKS = ("0x01", "0x02")  # the classes of Google's other devices, in its cloud
# With any of them somebody has said where the TPU is, or that there is one.
_SAID = ("JAX_PLATFORMS", "JAX_FORCE_TPU_INIT", "TPU_LIBRARY_PATH", "TPU_NAME")


def skip_absent_tpu(root: Path = Path("/")) -> bool:
    """Where libtpu is installed and no TPU is, as with the extra `plan`: leaves it out.

    JAX would start it to see, and it prints errors of several lines. Before JAX is imported.
    `mae-jax plan` asks libtpu for topologies, which goes on to work. Other accelerators have
    plugins: beside any, JAX chooses as ever.

    Args:
      root: that the system's folders lie in.

    Returns:
      Whether it did.
    """
    if any(map(os.environ.get, _SAID)) or importlib.util.find_spec("libtpu") is None:
        return False
    if metadata.entry_points(group="jax_plugins") or importlib.util.find_spec("jax_plugins"):
        return False
    if _may_have_tpu(root):
        return False
    os.environ["JAX_PLATFORMS"] = "cpu"
    return True


def _may_have_tpu(root):
    """Whether there is anything that could be one, of a generation that is not known yet too."""
    if any(root.glob("dev/accel*")) or any(root.glob("dev/vfio/[0-9]*")):
        return True
    try:
        for device in root.glob("sys/bus/pci/devices/*"):
            vendor, kind = ((device / name).read_text() for name in ("vendor", "class"))
            if vendor.strip() == _GOOGLE and not kind.startswith(_DISKS_AND_NETWORKS):
                return True
    except OSError:
        return True
    return False

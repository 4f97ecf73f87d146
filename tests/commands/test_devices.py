"""JAX is kept from starting libtpu only where no TPU can be."""

import importlib.util
import sys

import pytest

from mae_jax import api
from mae_jax.commands import devices


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """A machine without a TPU whose environment has libtpu, and no other accelerator's plugin."""
    for name in devices._SAID:
        monkeypatch.setenv(name, "")
    found = {"libtpu": object()}
    monkeypatch.setattr(importlib.util, "find_spec", found.get)
    monkeypatch.setattr(devices.metadata, "entry_points", lambda group: ())
    return tmp_path


def pci(root, vendor, kind):
    device = root / "sys/bus/pci/devices/0000:00:05.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(vendor + "\n")
    (device / "class").write_text(kind + "\n")


def test_libtpu_is_left_out_where_there_is_no_tpu(alone):
    pci(alone, "0x1ae0", "0x020000")  # a network card of Google's cloud
    assert devices.skip_absent_tpu(alone)
    assert devices.os.environ["JAX_PLATFORMS"] == "cpu"


@pytest.mark.parametrize("kind", ["0x088000", "0xff0000", "0x120000"])
def test_a_device_that_may_be_a_tpu_is_looked_for(alone, kind):
    pci(alone, "0x1ae0", kind)
    assert not devices.skip_absent_tpu(alone)
    assert not devices.os.environ["JAX_PLATFORMS"]


@pytest.mark.parametrize("name", ["accel0", "vfio/0"])
def test_a_device_file_is_looked_for(alone, name):
    (alone / "dev/vfio").mkdir(parents=True)
    (alone / "dev" / name).touch()
    assert not devices.skip_absent_tpu(alone)


@pytest.mark.parametrize("name", devices._SAID)
def test_what_somebody_has_said_holds(alone, monkeypatch, name):
    monkeypatch.setenv(name, "tpu")
    assert not devices.skip_absent_tpu(alone)


def test_beside_another_accelerators_plugin_jax_chooses(alone, monkeypatch):
    monkeypatch.setattr(devices.metadata, "entry_points", lambda group: ("cuda",))
    assert not devices.skip_absent_tpu(alone)


def test_from_python_it_is_left_out_before_jax_is_there_and_never_after(monkeypatch):
    called = []
    monkeypatch.setattr(devices, "skip_absent_tpu", lambda: called.append(True))
    api.function.__wrapped__("plan")
    assert not called  # tests have jax
    monkeypatch.delitem(sys.modules, "jax")
    api.function.__wrapped__("plan")
    assert called

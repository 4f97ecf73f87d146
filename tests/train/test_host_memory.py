"""What `host_memory.keep` is for: temporaries of a program that the system does not map anew."""

import json
import subprocess
import sys

import jax
import pytest

from mae_jax.train import host_memory

PROGRAM = """
import json, resource, sys
import jax, jax.numpy as jnp
from mae_jax.train import host_memory

kept = host_memory.keep() if "keep" in sys.argv else None

@jax.jit
def program(x):  # 64 MiB of temporaries
    for _ in range(3):
        x = jax.lax.optimization_barrier(x[::-1] + 1)
    return x.sum()

x, faults = jnp.ones((2**23,)), []
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    jax.block_until_ready(program(x))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(json.dumps([kept, min(faults)]))
"""


def run(*arguments):
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return json.loads(subprocess.check_output(command, text=True))


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults as Linux does")
def test_a_program_that_runs_again_finds_its_memory():
    (_, plain), (kept, faults) = run(), run("keep")
    if not kept:
        pytest.skip("not on glibc")
    assert plain > 2**26 / 2**16  # a page is 64 KiB at most
    assert faults < plain / 10


def test_it_says_no_beside_an_accelerator(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    assert host_memory.keep() is False


HOARD = """
import resource
from pathlib import Path
import numpy as np
from mae_jax.train import host_memory

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6

blocks = [np.ones(12_000) for _ in range(2000)]  # 192 MB in blocks that malloc keeps
last = blocks.pop()
del blocks
before = resident()
host_memory.give_back()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_what_is_free_goes_back_to_the_system():
    freed = subprocess.check_output([sys.executable, "-c", HOARD], text=True)
    assert float(freed) > 100

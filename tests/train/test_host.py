import subprocess
import sys

from mae_jax.train import host


def test_asking_is_harmless_and_takes_effect():
    program = """
from mae_jax.train import host
host.keep_freed_memory()
import resource, numpy as np
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(4_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    assert int(subprocess.check_output([sys.executable, "-c", program])) < 20_000
    host.keep_freed_memory()

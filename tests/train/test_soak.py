"""A run killed in every phase ends as one that nobody disturbed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_run_killed_in_every_phase_ends_like_one_left_alone(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "soak.py", "--kills=10", "--seed=0"]
    made = subprocess.run(
        command, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "10 kills" in made.stdout

"""The scripts of launch/, with stand-ins for what they start."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[1] / "launch"


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Makes a program that notes its arguments and ends with a code; gives what was noted."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(name, code=0):
        program, written = tmp_path / name, tmp_path / f"{Path(name).name}.arguments"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$@" >> {written}\nexit {code}\n')
        program.chmod(0o755)
        return lambda: written.read_text() if written.exists() else ""

    return make


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [(code, 0, False) for code in (0, 1, 2, 3, 4, 5, 6, 130)]
    + [(42, 99, True), (43, 0, True), (43, 10, False), (137, 0, True), (137, 10, False)],
)
def test_slurm_queues_again_what_was_stopped(stand_in, monkeypatch, code, restarts, again):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    started, requeued = stand_in("srun", code), stand_in("scontrol")
    script = [LAUNCH / "slurm.sh", "pretrain", "--workdir=a b"]
    assert subprocess.run(["bash", *script]).returncode == code
    assert started() == "--kill-on-bad-exit=0 mae-jax pretrain --workdir=a b\n"
    assert requeued() == ("requeue 7\n" if again else "")


@pytest.mark.parametrize(
    ("array", "share"),
    [
        (dict(ID=3, MIN=0, MAX=9), "--index=3 --of=10"),
        (dict(ID=5, MIN=1, MAX=9, STEP=4), "--index=1 --of=3"),
    ],
)
def test_slurm_gives_every_job_of_an_array_its_share_of_a_sweep(
    stand_in, monkeypatch, array, share
):
    for name, value in array.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    started = stand_in("srun")
    for verb, flags in (("sweep", f" {share}"), ("pretrain", "")):
        subprocess.run(["bash", LAUNCH / "slurm.sh", verb, "--workdir=a"], check=True)
        assert started().splitlines()[-1].endswith(f" mae-jax {verb} --workdir=a{flags}")


@pytest.mark.parametrize("gpus", [False, True])
def test_skypilot_starts_the_same_on_all_hosts(stand_in, monkeypatch, tmp_path, gpus):
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [42, 43, 137]
    for name, value in (task["envs"] | {"RUN": "r", "FLAGS": "--config.seed=1"}).items():
        monkeypatch.setenv(name, value or "")
    monkeypatch.setenv("SKYPILOT_NODE_IPS", "10.0.0.1\n10.0.0.2")
    monkeypatch.setenv("SKYPILOT_NUM_NODES", "2")
    monkeypatch.setenv("SKYPILOT_NODE_RANK", "1")
    stand_in("nvidia-smi", 0 if gpus else 1)
    installed, started = stand_in("uv"), stand_in(".venv/bin/mae-jax")
    for part in ("setup", "run"):
        subprocess.run(["bash", "-c", task[part]], cwd=tmp_path, check=True)
    assert f".[{'cuda' if gpus else 'tpu'},tensorflow]" in installed()
    place = " --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=1" if gpus else ""
    assert started() == (
        f"pretrain --config=configs/in1k/l16.py --workdir=/bucket/runs/r{place} --config.seed=1\n"
    )

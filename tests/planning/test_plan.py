"""Plans of small models, compiled for TPUs that are not here.

What loads the TPU compiler runs in a process of its own: it stays loaded.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from mae_jax import cli, parallel
from mae_jax.errors import UsageError
from mae_jax.parallel import Layout
from mae_jax.planning import chips, estimate, search, topology
from mae_jax.train import state
from mae_jax.train.task import prepare

SMALL = ["--config=configs/digits.py", "--config.data.batch_size=128"]
SMALL += ["--config.model.depth=1", "--config.model.decoder_depth=1", "--images=1000"]
REPOSITORY = Path(__file__).parents[2]


def python(*arguments):
    """A process as a user would start it, at the repository's root."""
    ours = ("JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS")
    environment = {k: v for k, v in os.environ.items() if k not in ours}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )


def plan(capsys, *arguments):
    code = cli.main(["mae-jax", "plan", *SMALL, *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_unknown_topologies_are_named(capsys):
    for wrong in ("v3-32", "h100:2x2", "v3"):
        code, _, err = plan(capsys, f"--topology={wrong}")
        assert code == 2 and wrong in err and "v5p:4x4x4" in err


def test_without_libtpu_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    code, _, err = plan(capsys, "--topology=v3:2x2")
    assert code == 2 and "pip install 'mae_jax[plan]'" in err


def test_peaks():
    assert chips.peak("TPU v5") == 459e12 and chips.peak("NVIDIA H200") == 989e12
    assert chips.peak("cpu") is None
    assert topology.chip("v5e:16x16").kind == "TPU v5 lite"


def test_changes_are_those_of_the_command_line(digits_config):
    made = search.changed(digits_config, ("--config.model.remat=True", "--config.parallel.fsdp=8"))
    assert made.model.remat is True and made.parallel.fsdp == 8
    assert digits_config.model.remat is False


@pytest.mark.slow
def test_a_plan_says_everything():
    made = python("-m", "mae_jax.cli", "plan", *SMALL, "--topology=v3:2x2,v5e:2x2", "--json")
    assert made.returncode == 0, made.stderr
    v3, v5e = map(json.loads, made.stdout.splitlines())
    assert (v3["devices"], v3["device_kind"]) == (8, "TPU v3")
    assert (v5e["devices"], v5e["device_kind"]) == (4, "TPU v5 lite")
    for found in (v3, v5e):
        assert found["fits"] and 0 < found["memory_gb"] < found["usable_gb"]
        assert found["step_seconds"] == pytest.approx(sum(found["parts"].values()))
        assert all(found["parts"][part] > 0 for part in ("dense", "attention", "optimizer"))
        assert found["collective_seconds"] > 0 and 0 < found["peak_share"] < 1
        assert found["hours"] > 0 and found["images_per_second_per_host"] > 0
        assert found["flops_per_step"] > 0


@pytest.mark.slow
def test_ways_to_split_are_ranked():
    made = python("-m", "mae_jax.cli", "plan", *SMALL, "--topology=v5e:2x2", "--compare", "--json")
    assert made.returncode == 0, made.stderr
    found = [json.loads(line) for line in made.stdout.splitlines()]
    seconds = [estimate["step_seconds"] for estimate in found]
    assert seconds == sorted(seconds) and all(estimate["fits"] for estimate in found)
    changes = {tuple(estimate["changes"]) for estimate in found}
    assert len(changes) == len(found) == 6  # replicated, ZeRO-1, FSDP; remat or not
    assert re.search(r"6 of 6, .*  eta 0:0\d:\d\d", made.stderr)


TIGHT = """
import dataclasses
from mae_jax.config import default_config
from mae_jax.planning import chips, estimate, report, search
config = default_config()
config.model.size, config.model.image_size, config.model.patch_size = "tiny", (32,), (4,)
config.model.depth, config.model.decoder_depth = 4, 1
config.data.folder, config.data.batch_size, config.train.epochs = "none", 256, 1.0
config.train.warmup_epochs = 0.0
config.parallel.fsdp = 1  # else it would be chosen so that it fits
whole = estimate.estimate(config, "v3:2x2", 1000)
tight = int(whole.memory_gb * 1e9) - 1
chips.TPUS["v3"] = dataclasses.replace(chips.TPUS["v3"], usable=tight)
found = search.plan(config, "v3:2x2", 1000)
assert not found.fits and found.suggestion.startswith("--config."), found
print(report.readable([found]))
"""


@pytest.mark.slow
def test_what_does_not_fit_gets_a_suggestion():
    made = python("-c", TIGHT)
    assert made.returncode == 0, made.stderr
    assert "does not fit, needs " in made.stdout and "  fits with  --config." in made.stdout


def test_the_state_takes_the_planned_bytes(digits_config):
    task = prepare(digits_config, 1)
    layout = Layout.of(task.split, jax.devices()[:1])
    template = state.abstract(task.objective, task.recipe, layout)
    made = state.create(task.objective, task.recipe, 0, layout)
    planned = parallel.bytes_per_device(template, layout.state(template))
    assert planned == sum(x.nbytes for x in jax.tree.leaves(made))


def test_plan_is_for_pretraining(digits_config):
    digits_config.train.objective = "classify"
    with pytest.raises(UsageError, match=r"pre-training.*classify"):
        estimate.estimate(digits_config, "v3:2x2", 1000)

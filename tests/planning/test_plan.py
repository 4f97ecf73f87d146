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
from mae_jax.planning import chips, search, topology
from mae_jax.planning.data import Data, counted
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
    for wrong in ("v3-32", "h100:2x2", "v3", "0xv5e:4x4", "2v5e:4x4"):
        code, _, err = plan(capsys, f"--topology={wrong}")
        assert code == 2 and wrong in err and "v5p:4x4x4" in err and "2xv5e:16x16" in err
    code, _, err = plan(capsys, "--topology=2xv3:8x8")
    assert code == 2 and "'2xv3:8x8' joins slices, which v3 does not do" in err
    assert topology.parse("12xv5p:4x4x4") == (12, "v5p", "4x4x4")
    hosts = {"v3:8x8": "v3:2x2", "v5e:1x1": "v5e:1x1", "2xv5p:4x4x4": "v5p:2x2x1"}
    hosts |= {"v6e:2x4": "v6e:2x2", "v5e:2x2": "v5e:2x2"}
    assert {name: topology.of_a_host(name) for name in hosts} == hosts


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
def test_a_step_over_two_slices():
    """Gradients are summed within a slice first; a part of the sum goes between slices."""
    made = python("-m", "mae_jax.cli", "plan", *SMALL, "--topology=2xv5e:2x2", "--json")
    assert made.returncode == 0, made.stderr
    (found,) = map(json.loads, made.stdout.splitlines())
    assert found["devices"] == 8 and found["split"].startswith("data 8 ")
    by = {(c["network"], c["kind"]): c for c in found["collectives"]}
    between = by["dcn", "all-reduce"]
    within = sum(c["gb"] for (network, _), c in by.items() if network == "ici")
    assert between["count"] > 0 and 0 < between["gb"] < within
    assert between["seconds"] == pytest.approx(between["gb"] / 3.125)


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
from mae_jax.planning.data import Data
config = default_config()
config.model.size, config.model.image_size, config.model.patch_size = "tiny", (32,), (4,)
config.model.depth, config.model.decoder_depth = 2, 1
config.model.width, config.model.heads = 64, 4
config.model.decoder_width, config.model.decoder_heads = 32, 4
config.data.folder, config.data.batch_size, config.train.epochs = "none", 256, 1.0
config.train.warmup_epochs = 0.0
config.parallel.fsdp = 1  # else it would be chosen so that it fits
whole = estimate.estimate(config, "v3:2x2", Data(1000))
tight = int(whole.memory_gb * 1e9) - 1
chips.TPUS["v3"] = dataclasses.replace(chips.TPUS["v3"], usable=tight)
found = search.plan(config, "v3:2x2", Data(1000))
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


JOBS = """
import json
from mae_jax.commands.plan import plan
def planned(variant, config="configs/digits_finetune.py", topology="v3:2x2", **changes):
    changes |= {"init_from": None, "data.batch_size": 64, "model.depth": 1, "model.width": 64}
    changes |= {"model.heads": 4, "model.decoder_depth": 1}
    (found,) = plan(config, [topology], overrides=changes, images=640, **variant)
    return {k: found[k] for k in ("fits", "flops_per_step", "hours", "step_seconds", "launch",
        "optimizer_gb", "memory_gb", "parts")}
print(json.dumps({
    "train": planned({}),
    "evaluate": planned({"job": "evaluate"}),
    "embed": planned({"job": "embed"}),
    "embed on four hosts": planned({"job": "embed"}, topology="v5e:4x4"),
    "embed on one of them": planned({"job": "embed"}, topology="v5e:2x2"),
    "probe": planned({}, "configs/digits_probe.py"),
    "pretrain": planned({}, "configs/digits.py"),
    "pretrain evaluated": planned({"job": "evaluate"}, "configs/digits.py"),
}))
"""


@pytest.mark.slow
def test_every_job_has_a_plan():
    made = python("-c", JOBS)
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert all(plan["fits"] and plan["step_seconds"] > 0 for plan in found.values())
    train, evaluate, embed = found["train"], found["evaluate"], found["embed"]
    # A pass over the images is forward alone, and ten steps of 64 images long; of `mae-jax embed`
    # steps of 64 on each of eight devices, and four hosts share the images.
    assert evaluate["flops_per_step"] < train["flops_per_step"] / 2.5
    assert embed["flops_per_step"] < 8 * evaluate["flops_per_step"]
    assert evaluate["hours"] == pytest.approx(10 * evaluate["step_seconds"] / 3600)
    assert embed["hours"] == pytest.approx(640 / 512 * embed["step_seconds"] / 3600)
    shared, one = found["embed on four hosts"], found["embed on one of them"]
    assert shared["step_seconds"] == pytest.approx(one["step_seconds"])
    assert shared["hours"] == pytest.approx(one["hours"] / 4)
    assert evaluate["optimizer_gb"] == 0 and evaluate["parts"]["optimizer"] == 0
    assert train["parts"]["optimizer"] > 0
    # A probe trains no block.
    assert found["probe"]["flops_per_step"] < train["flops_per_step"] / 2
    assert " finetune --config=" in next(iter(train["launch"].values()))
    assert " probe --config=" in next(iter(found["probe"]["launch"].values()))
    assert evaluate["launch"] is None
    assert found["pretrain evaluated"]["flops_per_step"] < found["pretrain"]["flops_per_step"]


def test_what_a_job_works_on(digits_config, tmp_path):
    assert counted(digits_config) == Data(100) and counted(digits_config, 7) == Data(7)
    digits_config.train.objective = "classify"
    assert counted(digits_config) == Data(100, 10)
    assert counted(digits_config, classes=3) == Data(100, 3)
    digits_config.data.name, digits_config.data.split = "imagenet2012", "train"
    assert counted(digits_config) == Data(1_281_167, 1000)
    with pytest.raises(UsageError, match="--classes 0 must be at least 1"):
        counted(digits_config, 5, 0)
    digits_config.data.name, digits_config.data.folder = None, str(tmp_path / "nowhere")
    assert counted(digits_config, 5, 2) == Data(5, 2)
    with pytest.raises(UsageError, match="--images=N and --classes=N, how many there are to train"):
        counted(digits_config)


def test_unknown_jobs_are_named(capsys):
    code, _, err = plan(capsys, "--topology=v3:2x2", "--job=dream")
    assert code == 2 and "job 'dream' is unknown; known are train, evaluate, embed" in err


@pytest.mark.slow
def test_weak_scaling(tmp_path):
    made = python(
        "-m", "mae_jax.cli", "plan", *SMALL, "--scaling=v3:2x2,v3:4x4", "--json",
        f"--plot={tmp_path / 'scaling.png'}",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    small, large = map(json.loads, made.stdout.splitlines())
    assert small["scaling"] == {"batch_size": 128, "exposed": 1.0, "hidden": 1.0}
    assert (large["devices"], large["scaling"]["batch_size"]) == (32, 512)
    waiting = [e["step_seconds"] + e["collective_seconds"] for e in (small, large)]
    assert large["scaling"]["exposed"] == pytest.approx(waiting[0] / waiting[1])
    assert large["scaling"]["exposed"] <= large["scaling"]["hidden"] + 0.01
    assert (tmp_path / "scaling.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "either --topology or --scaling is needed"),
        (["--topology=v3:2x2", "--scaling=v3:2x2,v3:4x4"], "either --topology or --scaling"),
        (["--topology=v3:2x2", "--plot=x.png"], "goes with --scaling"),
        (["--scaling=v3:2x2,v3:4x4", "--job=embed"], "goes without --compare and --job"),
        (["--scaling=v3:2x2"], "must name two topologies at least"),
        (["--topology=v3:2x2", "--compare", "--job=embed"], "mae-jax embed has one way"),
    ],
)
def test_flags_that_do_not_go_together(capsys, flags, message):
    code, _, err = plan(capsys, *flags)
    assert code == 2 and message in err

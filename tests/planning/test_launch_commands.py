"""The commands that a plan ends with."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from mae_jax import cli
from mae_jax.commands import configs, plan
from mae_jax.planning import launch, search
from mae_jax.planning.estimate import Estimate

REPOSITORY = Path(__file__).parents[2]
TYPED = ("--config=configs/in1k/l16.py", "--config.seed=1", "--config.data.split=it's")


def estimate(topology, hours=None, **more):
    given = dict(devices=1, device_kind="", changes=(), split="", memory_gb=1.0, usable_gb=2.0)
    given |= dict(parameters_gb=0.1, optimizer_gb=0.2, activations_gb=0.3, flops_per_step=1e12)
    if hours is not None:
        given |= dict(step_seconds=1.0, parts={}, collective_seconds=0.1, peak_share=0.5)
        given |= dict(hours_per_epoch=hours, hours=hours, images_per_second_per_host=1.0)
    given |= dict(fits=hours is not None, hours_with_collectives=hours)
    return Estimate(topology=topology, **given | more)


def test_the_page_has_the_same_names():
    page = (REPOSITORY / "docs/pods.md").read_text()
    row = r"^\| (\d+) (\w+) \| `(\S+)` \| `(\S+)`.*? \| `(\S+)` \| (.*) \|$"
    rows = re.findall(row, page, re.MULTILINE)
    assert {kind for _, kind, *_ in rows} == launch._OFFERS.keys()
    for chips, kind, name, type, runtime, gke in rows:
        found = launch.slice_of(name)
        assert name.startswith(f"{kind}:") and (found.type, found.runtime) == (type, runtime)
        if found.accelerator is None:
            assert gke == "not offered"
            continue
        said = f"`{found.accelerator}`, `{found.shape}`, {found.hosts}, {found.chips_per_host}"
        assert gke == said and found.hosts * found.chips_per_host == int(chips)


def test_a_shape_that_no_count_of_chips_stands_for():
    assert launch.slice_of("v4:4x4x16").type is None
    assert list(launch.commands("v4:4x4x16", TYPED)) == ["jobset.sh"]
    assert launch.slice_of("v6e:1x1").hosts == launch.slice_of("v6e:1x1").chips_per_host == 1
    assert launch.commands("v3:1x64", TYPED) == {}
    assert "no name" in launch.text(estimate("v3:1x64", 1.0), {})


def test_several_slices_are_asked_for():
    found = launch.commands("4xv5e:8x8", TYPED)
    assert found.keys() == {"xpk.sh", "jobset.sh"}  # a queued resource is one slice
    for command in found.values():
        assert " SLICES=4 " in command.splitlines()[0]
    assert "HOSTS=16 " in found["jobset.sh"]


@pytest.mark.parametrize("file", ["tpu_vm.sh", "xpk.sh", "jobset.sh"])
def test_what_is_printed_is_what_the_launchers_take(tmp_path, file):
    """The command, typed as it stands, in a dry run."""
    xpk = tmp_path / "xpk"
    xpk.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    xpk.chmod(0o755)
    shown = subprocess.run(
        ["bash", "-c", f"export DRY_RUN=1\n{launch.commands('v5e:8x8', TYPED)[file]}"],
        cwd=REPOSITORY,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    types = {"jobset.sh": "gke-tpu-topology: 8x8\n", "xpk.sh": "--tpu-type=v5litepod-64\n"}
    assert types.get(file, "--accelerator-type=v5litepod-64 ") in shown
    if file != "tpu_vm.sh":  # which has its command in a file
        words = "pretrain --config=configs/in1k/l16.py --config.seed=1 --config.data.split=it\\'s "
        assert f"exec mae-jax {words}--workdir=/bucket/runs/l16" in shown


def test_the_fastest_that_fits_is_recommended():
    tight = estimate("v3:2x2", suggestion="--config.model.remat=True")
    slow, fast = estimate("v3:8x8", 9.0), estimate("v6e:8x8", 3.0)
    assert launch.recommended([tight, slow, fast]) is fast
    assert launch.recommended([estimate("v5e:1x1"), tight]) is tight
    assert launch.recommended([estimate("v5e:1x1")]) is None
    assert launch.of_estimate(estimate("v5e:1x1"), TYPED) is None
    command = launch.of_estimate(tight, TYPED)["tpu_vm.sh"]
    assert "--config.model.remat=True --workdir=" in command
    assert launch.of_estimate(fast, None) is None


def test_a_plan_ends_with_the_commands(capsys, monkeypatch):
    found = [estimate("v3:8x8", 9.0), estimate("v5p:4x4x4", 3.0)]
    monkeypatch.setattr(search, "run", lambda *_, **__: found)
    flags = ["--config.train.epochs=3", "--noconfig.data.flip", "--config.data.mean", "0.5"]
    line = ["mae-jax", "plan", "--config=configs/digits.py", "--topology=v3:8x8,v5p:4x4x4", *flags]
    assert cli.main(line) == 0
    shown = capsys.readouterr().out
    assert shown.index("v3:8x8") < shown.index("start it on v5p:4x4x4")
    said = "launch/tpu_vm.sh digits pretrain --config=configs/digits.py --config.train.epochs=3 "
    said += "--config.data.flip=false --config.data.mean=0.5 --workdir=/bucket/runs/digits\n"
    assert said in shown and "TYPE=v5p-128 RUNTIME=v2-alpha-tpuv5 " in shown
    assert cli.main([*line, "--json"]) == 0
    v3, v5p = map(json.loads, capsys.readouterr().out.splitlines())
    assert v3["launch"].keys() == {"tpu_vm.sh"} and "TYPE=v3-128 " in v3["launch"]["tpu_vm.sh"]
    assert v5p["launch"].keys() == {"tpu_vm.sh", "xpk.sh", "jobset.sh"}
    # From Python, too, where it is known how the config would be typed.
    v3, _ = plan.plan("configs/digits.py", ["v3:8x8", "v5p:4x4x4"])
    assert "pretrain --config=configs/digits.py --workdir=" in v3["launch"]["tpu_vm.sh"]
    v3, _ = plan.plan(configs.read("configs/digits.py"), ["v3:8x8", "v5p:4x4x4"])
    assert v3["launch"] is None

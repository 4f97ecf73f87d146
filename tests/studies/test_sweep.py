"""Sweeps of real runs: small ones, of a few steps each.

Killed once in the suite; at as many moments as MAE_JAX_KILLS says.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import pytest

from mae_jax.commands.sweep import sweep
from mae_jax.errors import Diverged, Preempted, UsageError
from mae_jax.studies import agreement, finetune, pipeline, study
from mae_jax.train import loop
from mae_jax.visualize import curves

RATIOS = {"model.mask_ratio": [0.5, 0.75]}
KILLS = int(os.environ.get("MAE_JAX_KILLS", 1))


@pytest.fixture
def config(digits_config):
    digits_config.train.steps = 4
    return digits_config


@pytest.fixture
def classify(config):
    return after(config.copy_and_resolve_references(), "classify")


def after(one, objective):
    """The config of what is done with an encoder, on the data of the pre-training."""
    one.data.name = one.data.dir = None
    one.train.objective, one.train.steps, one.data.labels_per_class = objective, 2, 2
    one.model.width = one.model.depth = one.model.heads = None
    if objective == "probe":
        one.model.pool = "token"
    return one


def files(folder):
    """The table as it lies there."""
    found = {path.name: path.read_bytes() for path in folder.glob("comparison.*")}
    assert found.keys() >= {study.JSON, study.MARKDOWN}
    return found


def test_every_setting_is_pre_trained_then_fine_tuned_and_probed(
    config, classify, tmp_path, capsys
):
    folder = tmp_path / "s"
    probe = after(config.copy_and_resolve_references(), "probe")
    result = sweep(config, folder, grid=RATIOS, seeds=2, then=[classify, probe])
    assert result["rows"] == json.loads((folder / study.JSON).read_text())
    assert [row["model.mask_ratio"] for row in result["rows"]] == [0.5, 0.75]
    for row in result["rows"]:
        assert len(row["held-out loss"]["losses"]) == 2 and row["held-out loss"]["deviation"] > 0
        for column in ("kNN", "finetune", "probe"):
            assert len(row[column]["accuracies"]) == 2 and row[column]["mean"] > 0
    assert "4 of 4  mask_ratio=0.75/seed=1  held-out loss" in capsys.readouterr().err
    head = "| model.mask_ratio | held-out loss | kNN | finetune | probe |"
    assert (folder / study.MARKDOWN).read_text().startswith(head)
    assert result["missing"] == 0 and (not curves.available() or Path(result["plot"]).is_file())

    # Each is what the verbs make of the same configs.
    one = config.copy_and_resolve_references()
    one.model.mask_ratio, one.seed = 0.75, 1
    alone = loop.run(one, tmp_path / "alone", quiet=True)["measures"]
    row = result["rows"][1]
    assert row["held-out loss"]["losses"][1] == alone["eval_loss"]
    assert row["kNN"]["accuracies"][1] == alone["eval_knn_accuracy"]
    two = classify.copy_and_resolve_references()
    two.data.name, two.data.dir = config.data.name, config.data.dir
    two.init_from, two.seed, two.data.label_draw = str(tmp_path / "alone"), 1, 1
    found = finetune.accuracy_of(finetune.run(two, tmp_path / "two", quiet=True))
    assert row["finetune"]["accuracies"][1] == found

    # And nothing of it is done again, in whatever order the same is said.
    before = files(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "run", None)
        again = sweep(config, folder, grid={"model.mask_ratio": (0.75, 0.5)}, seeds=2,
                      then=[probe, classify])  # fmt: skip
    assert again == result and files(folder) == before


def test_programs_are_compiled_once_for_all_seeds(config, classify, tmp_path):
    compiled = []
    event = "/jax/core/compile/backend_compile_duration"

    def listen(name, seconds, **_):
        if name == event:
            compiled.append(seconds)

    jax.clear_caches()  # of other tests
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        sweep(config, tmp_path / "s", then=[classify])
        assert compiled
        compiled.clear()
        sweep(config, tmp_path / "s", seeds=2, then=[classify], extend=True)
        assert not compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_mistakes_are_found_before_anything_runs(config, classify, tmp_path):
    def refused(said, **options):
        with pytest.raises(UsageError) as error:
            sweep(options.pop("config", config), tmp_path / "s", **options)
        assert said in str(error.value) and not (tmp_path / "s").exists()

    bare = config.copy_and_resolve_references()
    bare.data.eval_split = None
    lost = classify.copy_and_resolve_references()
    lost.data.eval_split = None
    begun = classify.copy_and_resolve_references()
    begun.init_from = "runs/x"
    moving = config.copy_and_resolve_references()
    moving.init_from = "hf:owner/vit@main"
    few = classify.copy_and_resolve_references()
    few.data.labels_per_class = 1000
    refused("did you mean 'model.mask_ratio'", grid={"model.mask_rati": [0.5]})
    refused("mask_ratio 0.999", grid={"model.mask_ratio": [0.5, 0.999]})
    refused("--seeds=0 must be at least 1", seeds=0)
    refused("nothing would be measured", config=bare)
    refused("train.objective is 'reconstruct'", then=[config])
    refused("data.eval_split is not set", then=[lost])
    refused("leave it out", then=[begun])
    refused("may name other weights before all runs have begun", config=moving)
    refused("1000", then=[few])
    refused("is there already", then=[classify, classify])
    refused("is not divisible", grid={"model.width": [16, 15]})


def test_another_grid_is_refused_with_the_difference_or_extends(config, classify, tmp_path):
    folder = tmp_path / "s"
    sweep(config, folder, grid={"model.mask_ratio": [0.75]})
    first = json.loads((folder / agreement.NAME).read_text())

    def refused(*said, **options):
        with pytest.raises(UsageError) as error:
            sweep(options.pop("config", config), folder, **options)
        assert all(text in str(error.value) for text in said)
        assert json.loads((folder / agreement.NAME).read_text()) == first

    longer = config.copy_and_resolve_references()
    longer.train.steps = 5
    refused("--grid model.mask_ratio: '0.75' -> '0.5,0.75'", "--extend", grid=RATIOS)
    refused("--seeds: 1 -> 2", grid={"model.mask_ratio": [0.75]}, seeds=2)
    refused("--then: None -> 'finetune'", grid={"model.mask_ratio": [0.75]}, then=[classify])
    refused("train.steps: 4 -> 5", grid=RATIOS, config=longer, extend=True)
    refused("model.norm_pix", grid=RATIOS | {"model.norm_pix": [True]}, extend=True)

    moved = config.copy_and_resolve_references()
    moved.log.every_steps = 7
    half = {"model.mask_ratio": [0.5]}
    rows = sweep(moved, folder, grid=half, then=[classify], extend=True)["rows"]
    whole = tmp_path / "whole"
    assert rows == sweep(config, whole, grid=RATIOS, then=[classify])["rows"]
    assert files(folder) == files(whole)
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "a.txt").write_text("")
    with pytest.raises(UsageError, match=r"holds 'a.txt', but no sweep"):
        sweep(config, strange)
    assert [entry.name for entry in strange.iterdir()] == ["a.txt"]


def test_a_sweep_of_an_older_version_goes_on(config, classify, tmp_path, monkeypatch):
    sweep(config, tmp_path, then=[classify])
    held = json.loads((tmp_path / agreement.NAME).read_text())
    for tree in (held["config"], held["then"]["finetune"]):
        for key in ("decode_ratio", "decoder_attention"):
            del tree["model"][key]
    (tmp_path / agreement.NAME).write_text(json.dumps(held))
    monkeypatch.setattr(loop, "run", None)  # what it measured is kept
    other = config.copy_and_resolve_references()
    other.model.decode_ratio = 0.5
    with pytest.raises(UsageError, match=r"model.decode_ratio: None -> 0.5"):
        sweep(other, tmp_path, then=[classify])
    assert sweep(config, tmp_path, then=[classify])["missing"] == 0
    with pytest.raises(UsageError, match=r"model.decode_ratio: 1.0 -> 0.5"):
        sweep(other, tmp_path, then=[classify])


def test_what_diverged_is_shown_and_only_tried_again_when_asked(config, tmp_path, monkeypatch):
    ran = []

    def run(one, folder, **options):
        ran.append(one.seed)
        if one.seed == 1 and one.model.mask_ratio == 0.5 and broken:
            raise Diverged("step 3: loss nan")
        measures = {"eval_loss": one.seed + one.model.mask_ratio, "eval_knn_accuracy": 0.5}
        return {"measures": measures}

    monkeypatch.setattr(pipeline.loop, "run", run)
    broken = True
    for _ in range(2):
        rows = sweep(config, tmp_path / "s", grid=RATIOS, seeds=3)["rows"]
        assert rows[0]["held-out loss"]["diverged"] == rows[0]["kNN"]["diverged"] == [1]
        assert rows[0]["held-out loss"]["losses"] == [0.5, 2.5]
        assert "1.5000 ± 1.4142 (1 of 3 diverged)" in (tmp_path / "s" / study.MARKDOWN).read_text()
    assert ran == [0, 1, 2] * 2
    broken = False
    rows = sweep(config, tmp_path / "s", grid=RATIOS, seeds=3, rerun_diverged=True)["rows"]
    assert rows[0]["held-out loss"]["losses"] == [0.5, 1.5, 2.5] and ran[6:] == [1]


def test_other_data_than_was_measured_is_refused(config, tmp_path):
    sweep(config, tmp_path / "s")
    path = tmp_path / "s" / "base" / "seed=0" / "result.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"data": record["data"] | {"records": 7}}))
    with pytest.raises(UsageError, match="the data has changed since .*seed=0"):
        sweep(config, tmp_path / "s")


def test_told_to_stop_it_saves_and_goes_on(config, classify, tmp_path, monkeypatch):
    sweep(config, tmp_path / "whole", seeds=2, then=[classify])
    config.train.steps = 4
    measured = finetune.run

    def stop_then(one, folder, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return measured(one, folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "run", stop_then)
        with pytest.raises(Preempted, match="same command"):
            sweep(config, tmp_path / "s", seeds=2, then=[classify])
    assert not (tmp_path / "s" / "base" / "seed=1").exists()
    sweep(config, tmp_path / "s", seeds=2, then=[classify])
    assert files(tmp_path / "s") == files(tmp_path / "whole")


def test_a_signal_between_runs_is_not_forgotten(config, tmp_path, monkeypatch):
    def run(one, folder, **options):
        os.kill(os.getpid(), signal.SIGINT)  # as its last step ends
        return {"measures": {"eval_loss": 0.5, "eval_knn_accuracy": 0.5}}

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(pipeline.loop, "run", run)
    with pytest.raises(Preempted, match="stopped after 1 of 2 trials"):
        sweep(config, tmp_path / "s", seeds=2)
    assert signal.getsignal(signal.SIGINT) is before


_COMMAND = """
import runpy
def get_config():
    config = runpy.run_path({tests!r} + "/conftest.py")["small_config"]({tfds!r})
    config.train.steps = 4
    return config
"""
_THEN = """
import runpy
def get_config():
    config = runpy.run_path({path!r})["get_config"]()
    config.data.name = config.data.dir = None
    config.train.objective, config.train.steps = "classify", 2
    config.data.labels_per_class = 2
    config.model.width = config.model.depth = config.model.heads = None
    return config
"""


def test_killed_at_any_moment_the_table_is_the_same(tfds_dir, tmp_path):
    made, then = tmp_path / "made.py", tmp_path / "then.py"
    made.write_text(_COMMAND.format(tests=str(Path(__file__).parents[1]), tfds=tfds_dir))
    then.write_text(_THEN.format(path=str(made)))
    sweep(made, tmp_path / "whole", grid=RATIOS, seeds=2, then=[then])
    command = [
        sys.executable, "-m", "mae_jax.cli", "sweep", f"--config={made}", f"--then={then}",
        "--grid", "model.mask_ratio=.5,.75", "--seeds=2", f"--workdir={tmp_path / 's'}",
    ]  # fmt: skip
    chance, kills = random.Random(0), 0
    while kills < KILLS:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        timer = threading.Timer(chance.uniform(0, 6), process.kill)
        for line in process.stderr:
            if line.startswith("process 0 of 1"):  # from here on it reads and writes
                timer.start()
        timer.cancel()
        if process.wait() != -signal.SIGKILL:  # it was done before, and begins anew
            assert process.returncode == 0
            assert files(tmp_path / "s") == files(tmp_path / "whole")
            shutil.rmtree(tmp_path / "s")
        else:
            kills += 1
    left = subprocess.run(command, capture_output=True, text=True)
    assert left.returncode == 0, left.stderr
    assert files(tmp_path / "s") == files(tmp_path / "whole")

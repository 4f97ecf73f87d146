import copy
import errno
import fcntl
import json
import re
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from mae_jax.config import default_config
from mae_jax.data import loader
from mae_jax.errors import Diverged, NoUsableCheckpoint, Preempted, UsageError
from mae_jax.train import loop, metrics, workdir
from mae_jax.train.checkpoints import checkpoint, usable
from mae_jax.weights import start


def final_model(folder):
    model = checkpoint.read_model(str(folder))
    return model["step"], jax.tree.leaves(model)


def assert_same_parameters(one, other):
    (step, a), (other_step, b) = final_model(one), final_model(other)
    assert step == other_step
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_run_leaves_what_it_promises(digits_config, tmp_path, capsys):
    folder = tmp_path / "run"
    digits_config.log.knn_images = 30
    summary = loop.run(digits_config, folder)
    measured_on = "kNN accuracy: of 13 held-out images, by the 20 nearest of 30 training images; "
    assert capsys.readouterr().err.count(measured_on) == 1
    assert {p.name for p in folder.iterdir()} == {
        "config.json", "checkpoints", "metrics.jsonl", "panels",
    }  # fmt: skip
    saved = json.loads((folder / "config.json").read_text())
    assert saved["config"]["model"]["width"] == 16 and saved["versions"]["jax"] == jax.__version__
    lines = metrics.read(folder)
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(1, 9))
    assert {"loss", "lr", "grad_norm", "images_per_second", "data_wait_share"} <= lines[1].keys()
    speeds = [line["images_per_second"] for line in lines[1:] if "loss" in line]
    assert max(speeds) < 20 * min(speeds)
    evaluated = [line for line in lines if "eval_loss" in line]
    assert [line["step"] for line in evaluated] == [3, 6, 8]
    assert 0 <= evaluated[-1]["eval_knn_accuracy"] <= 1
    assert Path(summary["panel"]).is_file()
    assert Path(summary["checkpoint"]).name == "8" and Path(summary["checkpoint"]).is_dir()
    assert summary["measures"]["eval_loss"] == evaluated[-1]["eval_loss"]


def test_the_same_command_again_has_nothing_left_to_do(digits_config, tmp_path, caplog):
    first = loop.run(digits_config, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    summary = loop.run(digits_config, tmp_path)
    assert summary == first and summary["checkpoint"].endswith("/8")
    assert (tmp_path / "metrics.jsonl").read_text() == before
    caplog.clear()
    final_model(tmp_path)
    assert not caplog.records  # no library warns of what is as it should be


class Cut(Exception):
    pass


@pytest.fixture
def run_until(monkeypatch):
    """Runs a config in a folder until the batch after a step is asked for, as if killed there."""
    iterate = loader.TrainBatches.iterate

    def run(config, folder, cut):
        def until_cut(self, start, workers):
            for step, batch in enumerate(iterate(self, start, workers), start):
                if step == cut + 1:
                    raise Cut
                yield batch

        with monkeypatch.context() as patch, pytest.raises(Cut):
            patch.setattr(loader.TrainBatches, "iterate", until_cut)
            loop.run(config, folder)

    return run


@pytest.mark.parametrize("cut", [3, 6])
def test_resuming_is_exact(digits_config, tmp_path, cut, run_until, capsys):
    loop.run(digits_config, tmp_path / "whole")
    run_until(digits_config, tmp_path / "cut", cut)
    going_on = digits_config.copy_and_resolve_references()
    going_on.init_from = str(tmp_path / "cut")
    start.adopt(going_on)
    assert re.search("cut' is trained for [36] of 8 steps", capsys.readouterr().err)
    loop.run(digits_config, tmp_path / "cut")
    assert_same_parameters(tmp_path / "whole", tmp_path / "cut")
    losses = [
        [(line["step"], line["loss"]) for line in metrics.read(tmp_path / name) if "loss" in line]
        for name in ("whole", "cut")
    ]
    assert losses[0] == losses[1]


def test_what_a_stop_left_out_is_made_up(digits_config, tmp_path, monkeypatch):
    loop.run(digits_config, tmp_path / "whole")
    step, told = loop.train_step, [3, 8]  # where the run measures and draws, the last one too

    def signalled(state, *arguments, **options):
        if told and int(state.step) + 1 == told[0]:
            del told[0]
            signal.raise_signal(signal.SIGTERM)
        return step(state, *arguments, **options)

    monkeypatch.setattr(loop, "train_step", signalled)
    with pytest.raises(Preempted, match="stopped at step 3 of 8"):
        loop.run(digits_config, tmp_path / "stopped")
    assert final_model(tmp_path / "stopped")[0] == 3
    # At the last step there is nothing to stop.
    loop.run(digits_config, tmp_path / "stopped")
    whole, stopped = (
        [
            [line for line in metrics.read(tmp_path / name) if "eval_loss" in line],
            {path.name: path.read_bytes() for path in (tmp_path / name / "panels").iterdir()},
        ]
        for name in ("whole", "stopped")
    )
    assert whole == stopped and len(stopped[1]) == 3


def test_a_folder_that_is_held_is_refused(digits_config, tmp_path):
    with (
        workdir.claim(tmp_path, digits_config.to_dict()),
        pytest.raises(UsageError, match="in use by another process"),
    ):
        loop.run(digits_config, tmp_path)


def test_a_folder_that_cannot_be_locked_is_used_with_a_word(monkeypatch, capsys, tmp_path):
    def refused(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refused)
    with workdir.claim(tmp_path / "run", {"seed": 0}):
        assert (tmp_path / "run" / "config.json").exists()
    assert "cannot be locked (Function not implemented)" in capsys.readouterr().err


def test_another_run_in_the_folder_is_refused_and_shown(digits_config, tmp_path):
    loop.run(digits_config, tmp_path)
    digits_config.train.base_lr, digits_config.log.every_steps = 0.5, 7
    with pytest.raises(UsageError, match=r"Different are: train\.base_lr: 0\.01 -> 0\.5$"):
        loop.run(digits_config, tmp_path)


def test_a_folder_belongs_to_no_run_before_its_first_checkpoint(
    digits_config, tmp_path, run_until, capsys
):
    config = copy.deepcopy(digits_config)
    config.checkpoint.every_epochs = 100.0
    run_until(config, tmp_path, 4)
    (tmp_path / "notes.txt").write_text("mine")
    assert {p.name for p in (tmp_path / "panels").iterdir()} == {"step_00000003.png"}
    config.train.base_lr, config.log.panel_every_epochs, config.train.steps = 0.02, 100.0, 2
    capsys.readouterr()
    loop.run(config, tmp_path)
    assert "left no checkpoint; this one, with other settings" in capsys.readouterr().err
    assert [line["step"] for line in metrics.read(tmp_path) if "loss" in line] == [1, 2]
    assert {p.name for p in (tmp_path / "panels").iterdir()} == {"step_00000002.png"}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["config"]["train"]["base_lr"] == 0.02 and "changed" not in record
    config.train.base_lr = 0.01
    with pytest.raises(UsageError, match="holds a different run"):
        loop.run(config, tmp_path)


def test_settings_that_leave_the_state_true_may_change(digits_config, tmp_path, run_until, capsys):
    loop.run(digits_config, tmp_path / "whole")
    run_until(digits_config, tmp_path / "cut", 3)
    changed = copy.deepcopy(digits_config)
    changed.model.remat, changed.model.scan, changed.train.accumulate = True, True, 2
    changed.data.eval_split, changed.log.knn = "test[:5]", False
    loop.run(changed, tmp_path / "cut")
    assert "changed since the run was last started: data.eval_" in capsys.readouterr().err
    losses = [metrics.read(tmp_path / name)[-2]["loss"] for name in ("whole", "cut")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    record = json.loads((tmp_path / "cut" / "config.json").read_text())
    assert record["config"]["model"]["remat"] is True
    (change,) = record["changed"]
    assert change["step"] == 3 and "train.accumulate: 1 -> 2" in change["keys"]


def test_more_steps_say_what_becomes_of_the_schedule(digits_config, tmp_path, capsys):
    loop.run(digits_config, tmp_path)
    digits_config.train.steps = 12
    loop.run(digits_config, tmp_path)
    said = capsys.readouterr().err
    rate = next(line["lr"] for line in metrics.read(tmp_path) if line["step"] == 9)
    assert "planned for 8 steps: from step 8 on, its learning rate is that of a run of 12" in said
    assert f"{rate:.2e} now" in said
    assert final_model(tmp_path)[0] == 12
    record = json.loads((tmp_path / "config.json").read_text())
    assert record["changed"] == [{"step": 8, "keys": ["train.steps: 8 -> 12"]}]
    digits_config.train.steps = 11
    with pytest.raises(UsageError, match="has made 12 steps already, and the config asks for 11"):
        loop.run(digits_config, tmp_path)


def test_the_lock_goes_along_when_the_config_is_written_again(digits_config, tmp_path):
    loop.run(digits_config, tmp_path)
    resolved = workdir.read_config(tmp_path)
    resolved["train"]["steps"] = 9
    with workdir.claim(tmp_path, resolved) as claimed:
        claimed.record(8)
        with (
            pytest.raises(UsageError, match="in use by another process"),
            workdir.claim(tmp_path, resolved),
        ):
            pass
    assert workdir.read_config(tmp_path)["train"]["steps"] == 9


def test_a_folder_of_something_else_is_refused(digits_config, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="holds files but no run"):
        loop.run(digits_config, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_written(digits_config, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        loop.run(digits_config, tmp_path / "file" / "run")


def test_weights_that_do_not_fit_leave_nothing_behind(digits_config, tmp_path):
    loop.run(digits_config, tmp_path / "source")
    digits_config.train.objective, digits_config.init_from = "classify", str(tmp_path / "source")
    digits_config.model.width = 32
    with pytest.raises(
        UsageError, match=r"init_from .* is \(.*16.*\) in the weights, \(.*32.*\) in"
    ):
        loop.run(digits_config, tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()
    digits_config.model.width = 16

    def not_finite(config):
        model = checkpoint.read_model(config.init_from)
        model["params"]["encoder"]["cls_token"] = np.full((1, 1, 16), np.nan)
        return model

    with pytest.raises(UsageError, match="has weights that are not finite numbers"):
        loop.run(digits_config, tmp_path / "tuned", read_weights=not_finite)
    assert not (tmp_path / "tuned").exists()


def test_a_checkpoint_of_another_layout_is_refused(digits_config, tmp_path, monkeypatch):
    monkeypatch.setattr(usable, "LAYOUT", 1)
    loop.run(digits_config, tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(NoUsableCheckpoint, match="in layout 1, and this version reads 3"):
        loop.run(digits_config, tmp_path / "run")
    with pytest.raises(NoUsableCheckpoint, match="in layout 1"):
        checkpoint.read_model(str(tmp_path / "run"))


def test_changed_data_is_refused(photos, tmp_path, digits_config):
    import shutil

    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    digits_config.data.name, digits_config.data.folder = None, str(folder)
    digits_config.data.split, digits_config.data.eval_split = "all", None
    digits_config.train.steps, digits_config.train.warmup_epochs = 3, 0.0
    loop.run(digits_config, tmp_path / "run")
    (tmp_path / "link").symlink_to(folder)
    digits_config.data.folder = str(tmp_path / "link")
    loop.run(digits_config, tmp_path / "run")
    shutil.copy(next(folder.glob("*.jpg")), folder / "more.jpg")
    with pytest.raises(
        UsageError, match=r"the data has changed .* data\.records: 200 -> 201; data\.sha256: "
    ):
        loop.run(digits_config, tmp_path / "run")
    for key, value in (("seed", 1), ("data.batch_size", 8), ("data.repeats", 2)):
        changed = copy.deepcopy(digits_config)
        old = changed.to_dict()["seed"] if key == "seed" else changed.data[key.split(".")[1]]
        changed.update_from_flattened_dict({key: value})
        with pytest.raises(UsageError, match=rf"Different are: {key}: {old} -> {value}$"):
            loop.run(changed, tmp_path / "run")


def test_a_diverging_run_stops_and_keeps_its_checkpoints(digits_config, tmp_path):
    digits_config.train.base_lr, digits_config.train.steps = 1e30, 40
    digits_config.train.warmup_epochs, digits_config.train.max_skipped = 0.0, 0
    with pytest.raises(
        Diverged, match=r"step \d+: loss .* a lower train\.base_lr.* There is no che"
    ):
        loop.run(digits_config, tmp_path)
    digits_config.train.base_lr, digits_config.train.steps = 1e-2, 1
    loop.run(digits_config, tmp_path)
    assert final_model(tmp_path)[0] == 1


def test_numbers_that_are_too_far_from_the_mean_are_named(digits_config, tmp_path):
    digits_config.data.std, digits_config.model.norm_pix = (1e-30,), False
    digits_config.train.max_skipped = 0
    with pytest.raises(Diverged, match=r"image 'handwritten_digits:.*' has values .* data\.std"):
        loop.run(digits_config, tmp_path)


def test_the_first_step_is_not_blamed_on_the_learning_rate(digits_config, tmp_path, monkeypatch):
    step = loop.train_step

    def broken(state, *arguments, **options):
        state, numbers = step(state, *arguments, **options)
        return state, numbers | {"loss": numbers["loss"] * np.nan}

    monkeypatch.setattr(loop, "train_step", broken)
    with pytest.raises(Diverged, match=r"step 6: loss nan.* it is not the learning rate"):
        loop.run(digits_config, tmp_path)


@pytest.mark.slow
def test_tensorboard_files_hold_scalars_and_panels(digits_config, tmp_path):
    digits_config.log.tensorboard, digits_config.train.steps = True, 3
    loop.run(digits_config, tmp_path)
    import tensorflow as tf

    tags = set()
    for path in (tmp_path / "tensorboard").glob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            tags |= {value.tag for value in event.summary.value}
    assert {"loss", "lr", "eval_loss", "eval_knn_accuracy", "reconstruction"} <= tags


@pytest.mark.slow
def test_a_folder_of_mixed_photographs(photos, tmp_path):
    config = default_config()
    config.data.folder, config.data.split = str(photos), "all[:90%]"
    config.data.eval_split, config.data.batch_size, config.data.workers = "all[90%:]", 16, 0
    model, train = config.model, config.train
    model.size, model.image_size, model.patch_size, model.depth = "tiny", (48, 64), (16,), 1
    train.steps, train.warmup_epochs, config.log.tensorboard = 4, 0.1, False
    summary = loop.run(config, tmp_path)
    assert np.isfinite(summary["measures"]["eval_loss"])
    assert "eval_knn_accuracy" not in summary["measures"]
    assert Path(summary["panel"]).is_file()


def test_a_state_that_is_not_finite_is_never_saved(digits_config, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.state, "is_finite", lambda state: False)
    with pytest.raises(Diverged, match="step 3: a parameter is no longer finite"):
        loop.run(digits_config, tmp_path)
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_every_held_out_image_counts_once(digits_config, tmp_path):
    # 13 images on 8 devices: a batch of 16, three of them filling.
    digits_config.train.objective, digits_config.train.steps = "classify", 1
    summary = loop.run(digits_config, tmp_path)
    right = summary["measures"]["eval_accuracy"] * 13
    assert right == pytest.approx(round(right))

"""When checkpoints are saved, which are kept, and which of them is the best."""

import copy
import json
import shutil
from pathlib import Path

import pytest

from mae_jax import cli
from mae_jax.config import default_config
from mae_jax.errors import UsageError
from mae_jax.train import loop, metrics
from mae_jax.train.checkpoints import checkpoint, retention, rhythm
from mae_jax.train.checkpoints.rhythm import Rhythm
from mae_jax.train.task import Task
from mae_jax.weights.read import read


def task(config, steps=1000, steps_per_epoch=10.0):
    return Task(config, None, None, None, None, steps, steps_per_epoch, None)


@pytest.fixture
def config():
    return default_config()


def saved_at(found, steps, over=lambda step: False):
    """The steps after which a rhythm saves."""
    made = []
    for step in range(1, steps + 1):
        if found.is_due(step, over(step)):
            found.saved(step)
            made.append(step)
    return made


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [10, 20]),
        ({"every_epochs": 0.5}, [5, 10, 15, 20]),
        ({"every_steps": 7}, [7, 14, 21]),
        ({"every_steps": 7, "every_epochs": 2.0}, [7, 14, 20, 21]),
        ({"every_minutes": 1.0}, []),
        ({"every_epochs": 2.0, "keep_every_steps": 8}, [8, 16, 20]),
        ({"every_minutes": 1.0, "keep_best": "eval_loss"}, [15]),
    ],
)
def test_a_run_saves_by_what_its_config_gives(config, settings, steps):
    config.checkpoint.update(settings)
    config.log.eval_every_epochs = 1.5
    rhythm.settle(config.checkpoint)
    assert saved_at(Rhythm(task(config)), 21) == steps


def test_minutes_are_by_the_clock_and_one_voice_saves_once(config, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(rhythm.time, "monotonic", lambda: now[0])
    config.checkpoint.every_minutes = 2.0
    slow, fast = (Rhythm(task(config)) for _ in range(2))
    now[0] += 119
    assert not slow.is_over()
    now[0] += 1
    assert slow.is_over()
    # Both hear at step 5 of what one said at step 4, and at 6 of what the other said at 5.
    for found in (slow, fast):
        assert saved_at(found, 9, lambda step: step in (5, 6)) == [5]
        assert not found.is_over()
    assert saved_at(fast, 9, lambda step: step == 8) == [8]


def folder_of(tmp_path, losses):
    for step, loss in losses.items():
        path = tmp_path / str(step) / "position"
        path.mkdir(parents=True)
        said = {} if loss is None else {"measures": {"eval_loss": loss, "eval_accuracy": loss}}
        (path / "metadata").write_text(json.dumps(said))
    return tmp_path


def test_the_best_is_by_the_measures_name(tmp_path):
    losses = {2: 0.5, 4: None, 6: 0.25, 8: 0.25, 10: float("nan"), 12: 0.75}
    folder, steps = folder_of(tmp_path, losses), list(losses)
    assert retention.best(folder, steps, "eval_loss") == 8  # the later of equal ones
    assert retention.best(folder, steps, "eval_accuracy") == 12
    assert retention.best(folder, steps, "eval_top5") is None
    settings = {"keep": 2, "keep_every_steps": 4, "keep_best": "eval_loss"}
    assert retention.reasons(folder, steps, settings) == {
        2: [], 4: ["every 4 steps"], 6: [], 8: ["every 4 steps", "the best eval_loss"],
        10: ["the latest 2"], 12: ["the latest 2", "every 4 steps"],
    }  # fmt: skip
    assert retention.reasons(folder, steps, {"keep": 1})[12] == ["the latest"]  # an older config


def steps_of(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def kept(new_digits_config, tmp_path_factory):
    """A run that was resumed, and its config; measured at 3, 6, 8."""
    folder, config = tmp_path_factory.mktemp("kept") / "run", new_digits_config()
    config.log.panel_every_epochs, config.log.knn = 10.0, False
    config.checkpoint.every_epochs, config.checkpoint.every_steps = None, 5
    config.checkpoint.keep, config.checkpoint.keep_best = 1, "eval_loss"
    config.checkpoint.keep_every_steps = 4
    config.train.steps = 6
    loop.run(config, folder, quiet=True)
    config.train.steps, config.train.base_lr = 8, config.train.base_lr
    loop.run(config, folder, quiet=True)
    return folder, config


def measured(folder):
    return {line["step"]: line["eval_loss"] for line in metrics.read(folder) if "eval_loss" in line}


def test_a_run_keeps_the_latest_the_best_and_every_so_many(kept):
    folder, _ = kept
    losses = measured(folder)
    best = min(losses, key=losses.get)
    assert steps_of(folder) == sorted({4, 8, best})
    assert retention.measures(folder / "checkpoints" / "8")["eval_loss"] == losses[8]
    assert retention.measures(folder / "checkpoints" / "4") is None
    assert checkpoint.read_model(str(folder), "best")["step"] == best


def test_the_best_outlives_a_resume(kept, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(kept[0], folder)
    # As if an earlier state had been by far the best.
    for path in (folder / "checkpoints" / "4").glob("position/metadata"):
        said = json.loads(path.read_text())
        path.write_text(json.dumps(said | {"measures": {"eval_loss": 0.001}}))
    config = copy.deepcopy(kept[1])
    config.checkpoint.keep_every_steps, config.train.steps = None, 9
    loop.run(config, folder, quiet=True)
    assert steps_of(folder) == [4, 9]


def said(capsys, *arguments):
    code = cli.main(["mae-jax", *map(str, arguments)])
    return code, capsys.readouterr()


def test_the_best_can_be_taken_and_the_list_says_why_each_is_kept(kept, capsys, tmp_path):
    folder, _ = kept
    losses = measured(folder)
    best = min(losses, key=losses.get)
    code, found = said(capsys, "checkpoint", "list", folder)
    lines = {int(line.split()[1]): line for line in found.out.splitlines()}
    assert code == 0 and list(lines) == steps_of(folder)
    assert lines[4].endswith("kept: every 4 steps")
    assert "the best eval_loss" in lines[best] and "the latest" in lines[8]
    assert read(folder, step="best").origin["step"] == best
    assert read(folder / "checkpoints" / "4").origin["step"] == 4
    with pytest.raises(UsageError, match=r"has no checkpoint of step 3; it has \[4, "):
        read(folder, step=3)
    code, found = said(capsys, "export", folder, f"--out={tmp_path}", "--step=good")
    assert code == 2 and "--step=good must be a whole number, or best" in found.err


def test_a_best_that_is_not_kept_cannot_be_asked_for(kept, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(kept[0], folder)
    record = json.loads((folder / "config.json").read_text())
    record["config"]["checkpoint"]["keep_best"] = None
    (folder / "config.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"keeps no best checkpoint.*keep_best is not set"):
        checkpoint.read_model(str(folder), "best")


@pytest.mark.parametrize(
    ("split", "measure", "message"),
    [
        (
            "test[:13]",
            "eval_acuracy",
            "is not measured by this run; it measures eval_loss, eval_train",
        ),
        (None, "eval_loss", "is not measured by this run; data.eval_split is not set"),
    ],
)
def test_a_measure_that_there_is_not(digits_config, tmp_path, split, measure, message):
    digits_config.data.eval_split, digits_config.checkpoint.keep_best = split, measure
    with pytest.raises(UsageError, match=message):
        loop.run(digits_config, tmp_path / "run", quiet=True)
    assert not Path(tmp_path / "run").exists()


def test_a_run_of_an_older_config_is_resumed_without_a_word(kept, tmp_path, capsys):
    folder, config = tmp_path / "run", copy.deepcopy(kept[1])
    shutil.copytree(kept[0], folder)
    record = json.loads((folder / "config.json").read_text())
    record["config"]["checkpoint"] = {"every_epochs": 1.0, "keep": 2}
    (folder / "config.json").write_text(json.dumps(record))
    config.checkpoint = default_config().checkpoint
    loop.run(config, folder)
    assert "changed" not in capsys.readouterr().err

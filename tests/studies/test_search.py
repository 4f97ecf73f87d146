"""Searches by Optuna, with runs that take no time."""

import json

import pytest

from mae_jax.commands.sweep import sweep
from mae_jax.errors import Diverged, Preempted, UsageError
from mae_jax.studies import pipeline, study
from mae_jax.studies.grid import Range

optuna = pytest.importorskip("optuna")

SPACE = {"train.base_lr": Range(1e-4, 1e-1, log=True), "train.beta2": [0.9, 0.95, 0.999]}


@pytest.fixture
def runs(monkeypatch):
    """Stands for training: the best learning rate is 1e-2; measured three times on the way."""
    made = []

    def run(one, folder, measured=None, **options):
        made.append(one.train.base_lr)
        if stop_at and len(made) == stop_at[0]:
            raise Preempted("stopped")
        if one.train.base_lr > 0.09:
            raise Diverged("step 1: loss nan")
        loss = abs(1e-2 - one.train.base_lr) + 0.1
        for step in (1, 2, 3):
            if measured:
                measured(step, {"eval_loss": loss / step})
        return {"measures": {"eval_loss": loss / 3, "eval_knn_accuracy": 0.5}}

    stop_at: list[int] = []
    monkeypatch.setattr(pipeline.loop, "run", run)
    return made, stop_at


def test_a_search_finds_prunes_and_is_reproducible(config, runs, tmp_path, capsys):
    made, stop_at = runs
    result = sweep(config, tmp_path / "a", grid=SPACE, search=16)
    rows = result["rows"]
    assert [row["trial"] for row in rows] == list(range(16)) and len(made) == 16
    assert any("pruned" in row["held-out loss"] for row in rows)
    assert abs(result["best"]["train.base_lr"] - 1e-2) < 5e-3
    table = (tmp_path / "a" / study.MARKDOWN).read_text()
    assert table.startswith("| trial | train.base_lr | train.beta2 | held-out loss | kNN |")
    assert "| pruned |" in table and "16 of 16  trial=0015" in capsys.readouterr().err

    # Stopped on the way, it goes on as if it had not been.
    made.clear()
    stop_at.append(5)
    with pytest.raises(Preempted):
        sweep(config, tmp_path / "b", grid=SPACE, search=16)
    stop_at.clear()
    again = sweep(config, tmp_path / "b", grid=SPACE, search=16)
    assert len(made) == 17 and again["rows"] == rows
    for name in (study.JSON, study.MARKDOWN):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    # More of it goes on from there; another space does not.
    assert len(sweep(config, tmp_path / "b", grid=SPACE, search=18)["rows"]) == 18
    with pytest.raises(UsageError, match="train.beta2"):
        sweep(config, tmp_path / "b", grid=SPACE | {"train.beta2": [0.9]}, search=18)
    with pytest.raises(UsageError, match="holds another sweep"):
        sweep(config, tmp_path / "b", grid={"train.beta2": [0.9]})


def test_workers_share_a_database(config, runs, tmp_path):
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    sweep(config, tmp_path / "a", grid=SPACE, search=3, storage=url)
    rows = sweep(config, tmp_path / "b", grid=SPACE, search=5, storage=url)["rows"]
    assert len(rows) == 5 and len(runs[0]) == 5
    assert sorted(p.name for p in (tmp_path / "b").glob("trial=*")) == ["trial=0003", "trial=0004"]
    with pytest.raises(UsageError, match="--storage=nosuch://…@host/x cannot be used"):
        sweep(config, tmp_path / "c", grid=SPACE, search=3, storage="nosuch://me:secret@host/x")


def test_a_setting_that_cannot_work_is_one_of_many(config, runs, tmp_path):
    space = {"model.width": [12, 16], "model.heads": [2, 3]}
    config.model.width, config.model.heads = 12, 2
    rows = sweep(config, tmp_path / "s", grid=space, search=12)["rows"]
    for row in rows:
        impossible = row["model.width"] == 16 and row["model.heads"] == 3
        assert ("impossible" in row["held-out loss"]) == impossible
    assert any("impossible" in row["held-out loss"] for row in rows)


def test_mistakes_of_searches(config, runs, tmp_path):
    def refused(said, **options):
        with pytest.raises(UsageError) as error:
            sweep(config, tmp_path / "s", **{"grid": SPACE, "search": 3} | options)
        assert said in str(error.value)

    refused("--search=0 must be at least 1", search=0)
    refused("needs --grid", grid={})
    refused(
        "means something else for every model.mask_ratio", grid={"model.mask_ratio": [0.5, 0.6]}
    )
    refused("--seeds=3 does not go with --search", seeds=3)
    refused("--index is for a grid", index=0, of=2)
    refused("train.min_lr", grid={"train.min_lr": Range(1e-3, 1.0)})
    refused("--storage=x goes with --search", search=None, storage="x", grid={})
    assert not (tmp_path / "s").exists() and not runs[0]


@pytest.fixture
def config(digits_config):
    return digits_config


def test_ranges_are_kept_as_text(config, runs, tmp_path):
    sweep(config, tmp_path / "s", grid=SPACE, search=1)
    held = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert held["grid"]["train.base_lr"] == "0.0001..0.1:log" and held["search"]

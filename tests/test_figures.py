"""What README, docs and configs tell of the same run is the same."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("figures", ROOT / "benchmarks" / "figures.py")
figures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(figures)


@pytest.mark.parametrize("name", figures.TOLD)
def test_a_figure_is_the_same_wherever_it_is_told(name):
    told = figures.told(name)
    assert figures.agree(told), told


def test_more_digits_of_a_figure_are_no_other_figure():
    assert figures.agree({"a": "0.29", "b": "0.290"}) and figures.agree({"a": "0.29", "b": "0.288"})
    assert not figures.agree({"a": "0.29", "b": "0.284"})
    assert not figures.agree({"a": "93.2 ± 1.0", "b": "93.0 ± 0.7"})


def test_the_demos_runs_are_written_everywhere(tmp_path, monkeypatch):
    for file in {file for places in figures.TOLD.values() for file, _ in places}:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    (tmp_path / "runs/digits").mkdir(parents=True)
    (tmp_path / "runs/digits-finetune").mkdir()
    line = {"step": 1, "eval_loss": 0.3141, "eval_knn_accuracy": 0.876}
    (tmp_path / "runs/digits/metrics.jsonl").write_text(json.dumps(line) + "\n")
    methods = ("pretrained", "scratch", "pixels")
    rows = [{"method": method, "mean": 0.5, "deviation": 0.25} for method in methods]
    (tmp_path / "runs/digits-finetune/comparison.json").write_text(json.dumps(rows))
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    for name, value in figures.measured(tmp_path / "runs").items():
        figures.write(name, value)
    assert figures.told("held-out loss") == {"README.md": "0.31", "configs/digits.py": "0.314"}
    assert figures.told("kNN accuracy") == {"configs/digits.py": "88"}
    for name in methods:
        assert set(figures.told(name).values()) == {"50.0 ± 25.0"}

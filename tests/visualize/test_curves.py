import importlib.util

import numpy as np
import pytest
from PIL import Image

from mae_jax.visualize import curves


def rows(over, values):
    names = ("labels", "blocks")
    return [
        dict(dict.fromkeys(names), method=method, mean=0.5, deviation=0.1) | {over: value}
        for method in ("pretrained", "scratch")
        for value in values
    ]


@pytest.mark.skipif(not curves.available(), reason="matplotlib comes with mae_jax[plots]")
@pytest.mark.parametrize(
    ("over", "values"), [("labels", [10, "all"]), ("blocks", [0, 0.5, 1]), ("layer", [2, 4])]
)
def test_a_curve_is_a_picture(tmp_path, over, values):
    path = curves.draw(rows(over, values), tmp_path / "curve.png")
    assert min(Image.open(path).size) > 400
    path = curves.bars(["a", "b"], {"kNN": [0.1, None], "linear": [0.2, 0.3]}, tmp_path / "b.png")
    assert min(Image.open(path).size) > 400


def test_without_matplotlib_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert curves.draw(rows("labels", [1]), tmp_path / "curve.png") is None
    assert not (tmp_path / "curve.png").exists()


def test_a_search_has_a_dot_for_each_trial_over_every_setting(tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    seen = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, path: seen.append(self.axes))
    made = [
        {"trial": trial, "train.base_lr": rate, "model.norm_pix": norm,
         "kNN": {"mean": mean, "deviation": None, "accuracies": [mean]}}
        for trial, (rate, norm, mean) in enumerate(
            [(1e-3, True, 0.4), (3e-2, False, 0.5), (1e-1, False, None)]
        )
    ]  # fmt: skip
    assert curves.over(made, tmp_path / "plot.png") == tmp_path / "plot.png"
    rate, norm = seen[0]
    assert rate.get_xscale() == "log" and norm.get_xlabel() == "model.norm_pix"
    for axes in (rate, norm):
        np.testing.assert_allclose(axes.collections[0].get_offsets()[:, 1], [40, 50])
    np.testing.assert_allclose(rate.collections[0].get_offsets()[:, 0], [1e-3, 3e-2])

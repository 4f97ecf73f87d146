import importlib.util

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
@pytest.mark.parametrize(("over", "values"), [("labels", [10, "all"]), ("blocks", [0, 0.5, 1])])
def test_a_curve_is_a_picture(tmp_path, over, values):
    path = curves.draw(rows(over, values), tmp_path / "curve.png")
    assert min(Image.open(path).size) > 400
    path = curves.bars(["a", "b"], {"kNN": [0.1, None], "linear": [0.2, 0.3]}, tmp_path / "b.png")
    assert min(Image.open(path).size) > 400


def test_without_matplotlib_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert curves.draw(rows("labels", [1]), tmp_path / "curve.png") is None
    assert not (tmp_path / "curve.png").exists()

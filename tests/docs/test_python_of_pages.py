"""The Python on a page runs from top to bottom, as somebody would type it."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"
_SMALLER = {'{"train.epochs": 20}': '{"train.epochs": 1, "train.warmup_epochs": 0.5}'}


@pytest.mark.slow
def test_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "api.md").read_text()
    for said, smaller in _SMALLER.items():
        assert said in text
        text = text.replace(said, smaller)
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S):
        exec(compile(code, "api.md", "exec"), names)
    assert names["run"].pictures["panel"].ndim == 3
    assert (tmp_path / "runs/features.npz").is_file()
    assert names["tokens"].shape == (16, 17, 64) and names["losses"].shape == (16,)
    assert np.isfinite(names["value"]) and names["batch"]["image"].shape == (64, 8, 8, 1)
    drawn, output = names["drawn"], names["output"]
    assert jax.numpy.array_equal(drawn.mask_BN, output.mask)
    assert names["ours"]["encoder", "blocks", 0, "attn", "qkv", "kernel"].shape == (3, 64, 64)

"""Pictures show the masks that a model was trained with, or others on request."""

import dataclasses

import numpy as np
import pytest
from made import random_weights
from PIL import Image

from mae_jax.errors import UsageError
from mae_jax.inference import pictures


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return path


def test_units_and_masks_of_ones_own(image, tmp_path, monkeypatch):
    weights, masks = random_weights(), []
    monkeypatch.setattr(
        pictures.reconstruction, "hide", lambda shown, mask, size: masks.append(mask) or shown
    )
    (tmp_path / "mine.py").write_text(
        "import jax.numpy as jnp\n\n"
        "def last(key, batch, grid):\n"
        "    return -jnp.ones((batch, 1)) * jnp.arange(grid[0] * grid[1])[None]\n"
    )
    out = tmp_path / "out.png"
    units = dataclasses.replace(weights, mask_unit=2)
    pictures.reconstruct(units, image, out)
    pictures.reconstruct(units, image, out, sampling=f"{tmp_path}/mine.py:last")
    pictures.reconstruct(weights, image, out, sampling=f"{tmp_path}/mine.py:last")
    any_unit, last_unit, last = (mask.reshape(4, 4) for mask in masks)
    blocks = any_unit.reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(4, 4).sum(1)
    assert sorted(blocks) == [0, 4, 4, 4]
    np.testing.assert_array_equal(np.argwhere(last_unit == 0), [[2, 2], [2, 3], [3, 2], [3, 3]])
    np.testing.assert_array_equal(np.argwhere(last == 0), [[3, 0], [3, 1], [3, 2], [3, 3]])
    with pytest.raises(UsageError, match=r"mask_ratio 0\.9 must leave at least one unit of 2 x 2"):
        pictures.reconstruct(units, image, out, mask_ratio=0.9)


def test_what_cannot_be_drawn_or_found_says_so(image, tmp_path):
    weights = random_weights()
    gone = "gone.py:left"
    with pytest.raises(UsageError, match="^sampling 'gone.py:left': there is no file 'gone.py'"):
        pictures.reconstruct(weights, image, tmp_path / "out.png", sampling=gone)
    tokens = dataclasses.replace(weights, target="tokens")
    with pytest.raises(UsageError, match="this model predicts tokens, which cannot be drawn"):
        pictures.reconstruct(tokens, image, tmp_path / "out.png")


def test_code_that_weights_name_is_not_run(image, tmp_path):
    code, trace = tmp_path / "evil.py", tmp_path / "ran"
    code.write_text(f"open({str(trace)!r}, 'w')\nfrom mae_jax.models.masking import random_noise\n")
    name = f"{code}:random_noise"
    weights = dataclasses.replace(random_weights(), sampling=name)
    with pytest.raises(UsageError, match="no code is run because a file names it"):
        pictures.reconstruct(weights, image, tmp_path / "out.png")
    assert not trace.exists()
    pictures.reconstruct(weights, image, tmp_path / "out.png", sampling="grid")
    assert not trace.exists()
    pictures.reconstruct(weights, image, tmp_path / "out.png", sampling=name)
    assert trace.exists()

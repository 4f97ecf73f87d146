import numpy as np
import pytest

from mae_jax.visualize import reconstruction


def test_hidden_patches_are_grey():
    images = np.ones((1, 4, 6, 1), np.float32)
    mask = np.array([[1, 0, 0, 0, 0, 1.0]])
    shown = reconstruction.hide(images, mask, (2, 2))[0, ..., 0]
    assert (shown[:2, :2] == 0.5).all() and (shown[2:, 4:] == 0.5).all()
    assert shown[:2, 2:].min() == shown[2:, :4].min() == 1


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("count", [1, 5])
def test_panel_has_a_place_for_every_picture(channels, count):
    pictures = np.zeros((count, 8, 12, channels), np.float32)
    sheet = np.asarray(reconstruction.panel({"masked": pictures, "original": pictures}))
    black = (sheet == 0).all(-1).sum()
    assert black >= count * 2 * 96 * 144

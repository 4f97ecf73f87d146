import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mae_jax.data import augment


def ramp(height, width):
    columns = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    return Image.fromarray(columns.astype(np.uint8))


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 999))
def test_crops_of_any_image_have_the_asked_size(height, width, seed):
    rng = np.random.default_rng(seed)
    image = ramp(height, width)
    assert augment.pixels(augment.random_resized_crop(image, (6, 8), rng)).shape == (6, 8, 1)
    assert augment.pixels(augment.centre_crop(image, (6, 8), 0.875)).shape == (6, 8, 1)


def test_area_and_aspect_of_crops_keep_to_their_ranges(monkeypatch):
    seen = []
    monkeypatch.setattr(augment, "resize", lambda image, size: seen.append(image.size) or image)
    rng = np.random.default_rng(0)
    for _ in range(500):
        augment.random_resized_crop(ramp(200, 300), (8, 8), rng, (0.2, 0.6))
    w, h = np.array(seen, float).T
    assert (w * h).min() / 60_000 > 0.19 and (w * h).max() / 60_000 < 0.61
    assert (w / h).min() > 0.74 and (w / h).max() < 1.35
    # Area is uniform over its range: its mean is the middle.
    assert abs((w * h).mean() / 60_000 - 0.4) < 0.02


def test_whole_image_crop_is_the_image():
    image = ramp(8, 8)
    crop = augment.random_resized_crop(
        image, (8, 8), np.random.default_rng(0), (1.0, 1.0), (1.0, 1.0)
    )
    np.testing.assert_array_equal(np.asarray(crop), np.asarray(image))


def test_centre_crop_is_central_and_undistorted():
    image = np.zeros((100, 200, 1), np.uint8)
    image[25:75, 75:125] = 255
    cut = augment.pixels(augment.centre_crop(Image.fromarray(image[..., 0]), (10, 10), 0.5))
    assert cut.min() == 255
    wide = augment.pixels(augment.centre_crop(Image.fromarray(image[..., 0]), (10, 20), 1.0))
    assert wide.shape == (10, 20, 1) and wide[5, 10] == 255 and wide[0, 0] == 0


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    small = augment.pixels(augment.resize(Image.fromarray(stripes), (8, 8)))
    assert abs(int(small.mean()) - 127) < 3 and small.std() < 10


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_every_channel_is_treated_alike(channels):
    array = np.random.default_rng(0).integers(0, 256, (20, 24, 1), np.uint8)
    stacked = np.repeat(array, channels, axis=-1)
    image = stacked if channels == 5 else Image.fromarray(stacked.squeeze())
    crop = augment.random_resized_crop(image, (8, 8), np.random.default_rng(3))
    cut = augment.pixels(augment.mirror(crop))
    assert cut.shape == (8, 8, channels)
    np.testing.assert_array_equal(cut, np.repeat(cut[..., :1], channels, axis=-1))

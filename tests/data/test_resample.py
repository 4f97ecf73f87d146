import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mae_jax.data import resample as module
from mae_jax.data.resample import resample


def photograph():
    from sklearn.datasets import load_sample_image

    return load_sample_image("flower.jpg")


@settings(max_examples=40, deadline=None)
@given(
    box=st.tuples(
        st.integers(0, 300), st.integers(0, 200), st.integers(1, 330), st.integers(1, 220)
    ),
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_whole_boxes_are_resized_as_pillow_does(box, size):
    picture = photograph()
    left, top, w, h = box
    cut = Image.fromarray(picture[top : top + h, left : left + w])
    expected = np.asarray(cut.resize(size[::-1], Image.Resampling.BICUBIC))
    made = resample(picture, box, size)
    assert made.shape == (*size, 3) and made.dtype == np.uint8
    # Both round and clip after each of two passes, which they take in another order.
    difference = np.abs(made.astype(int) - expected)
    assert difference.mean() < 0.5 and difference.max() <= 16


@settings(max_examples=40, deadline=None)
@given(
    box=st.tuples(st.floats(0, 300), st.floats(0, 200), st.floats(1.5, 330), st.floats(1.5, 220)),
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
@example(box=(21.25, 0.0, 2.0, 1.5), size=(1, 1))
def test_the_filter_sees_what_lies_around_a_box_where_that_is_asked_for(box, size):
    picture = photograph()
    left, top, w, h = box
    expected = Image.fromarray(picture).resize(
        size[::-1], Image.Resampling.BICUBIC, box=(left, top, left + w, top + h)
    )
    made = resample(picture, box, size, around=True)
    difference = np.abs(made.astype(int) - np.asarray(expected))
    # Of an image of one pixel, rounding alone may be more than the mean of many.
    assert (difference.mean() < 0.5 or difference.max() <= 1) and difference.max() <= 16


@pytest.mark.parametrize("around", [False, True])
def test_a_part_of_its_own_size_is_itself(around):
    picture = photograph()
    made = resample(picture, (5, 7, 32, 16), (16, 32), around=around)
    np.testing.assert_array_equal(made, picture[7:23, 5:37])


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    small = resample(stripes, (0, 0, 64, 64), (8, 8))
    assert abs(int(small.mean()) - 127) < 3 and small.std() < 10


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_every_channel_is_treated_alike(channels, dtype):
    one = photograph()[..., :1].astype(dtype)
    made = resample(np.repeat(one, channels, axis=-1), (10.5, 3.25, 100, 80), (32, 24))
    assert made.shape == (32, 24, channels) and made.dtype == dtype
    expected = np.repeat(resample(one, (10.5, 3.25, 100, 80), (32, 24)), channels, axis=-1)
    np.testing.assert_allclose(made.astype(float), expected, atol=1)


def test_fractions_of_pixels_count():
    ramp = np.repeat(np.arange(0, 200, dtype=np.float32)[None, :, None], 50, axis=0)
    # The middle of each of ten columns of ten pixels; the outer ones see the edge.
    made = resample(ramp, (50.5, 5, 100, 40), (4, 10))
    np.testing.assert_allclose(made[0, 2:-2, 0], 55 + 10 * np.arange(2, 8), atol=0.01)


@pytest.mark.parametrize(
    ("dtype", "channels"), [(np.uint8, 1), (np.uint8, 3), (np.float32, 5), (np.uint8, 4)]
)
def test_pillow_takes_its_place_where_there_is_no_wheel(monkeypatch, dtype, channels):
    picture = np.concatenate([photograph(), photograph()[::-1]], axis=-1)[..., :channels]
    arguments = np.ascontiguousarray(picture.astype(dtype)), (20.5, 31.0, 150.25, 99.5), (40, 30)
    expected = module.resample(*arguments, around=True).astype(float)
    monkeypatch.setattr(module, "fast", None)
    made = module.resample(*arguments, around=True)
    assert made.shape == (40, 30, channels) and made.dtype == dtype
    assert np.abs(made - expected).mean() < 0.5

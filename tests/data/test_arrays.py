import io

import numpy as np
import pytest

from mae_jax.data import images
from mae_jax.data.images import Form
from mae_jax.errors import BrokenRecord


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


BANDS = np.arange(5 * 4 * 7, dtype=np.uint8).reshape(5, 4, 7)


def test_arrays_of_uint8_pass_as_they_are():
    np.testing.assert_array_equal(images.decode(BANDS, Form(7), "x"), BANDS)
    np.testing.assert_array_equal(images.decode(npy(BANDS), Form(7), "x"), BANDS)
    np.testing.assert_array_equal(images.decode(npy(np.asfortranarray(BANDS)), Form(7), "x"), BANDS)
    np.testing.assert_array_equal(images.decode(BANDS[..., 0], Form(1), "x"), BANDS[..., :1])


def test_channels_may_come_first():
    made = images.decode(npy(np.moveaxis(BANDS, -1, 0)), Form(7), "x")
    np.testing.assert_array_equal(made, BANDS)


def test_npz_with_one_array_or_one_called_image():
    np.testing.assert_array_equal(images.decode(npz(bands=BANDS), Form(7), "x"), BANDS)
    data = npz(mask=BANDS[..., 0], image=BANDS)
    np.testing.assert_array_equal(images.decode(data, Form(7), "x"), BANDS)
    with pytest.raises(BrokenRecord, match="x: holds a, b; expected one array, or one called imag"):
        images.decode(npz(a=BANDS, b=BANDS), Form(7), "x")


def test_unsigned_integers_are_scaled_and_others_kept_as_float():
    deep = (BANDS.astype(np.uint16) * 257)[..., :2]
    np.testing.assert_array_equal(images.decode(deep, Form(2), "x"), BANDS[..., :2])
    np.testing.assert_allclose(
        images.decode(deep, Form(2, floats=True), "x"), BANDS[..., :2] / 255, rtol=1e-6
    )
    hounsfield = BANDS[..., 0].astype(np.int16) - 1000
    kept = images.decode(npy(hounsfield), Form(1, floats=True), "x")
    assert kept.dtype == np.float32 and kept.min() == -1000
    with pytest.raises(BrokenRecord, match="int16 do not fit into uint8; data.pixels='float32'"):
        images.decode(npy(hounsfield), Form(1), "scan")
    np.testing.assert_array_equal(np.unique(images.decode(BANDS > 9, Form(7), "x")), [0, 255])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (BANDS, r"array of uint8 \(5, 4, 7\), expected 3 channels"),
        (npy(BANDS)[:-9], "ends too early"),
        (npy(BANDS)[:20], "EOF"),
        (npy(np.zeros((2, 2, 2, 2))), r"shape \(2, 2, 2, 2\); expected"),
        (npz(a=BANDS)[:90], "not a zip file"),
        (npy(np.array([[{}]]), allow_pickle=True), "Python objects, which are never loaded"),
        (npy(np.zeros((600, 700), np.uint8)), r"shape \(600, 700\); expected .* at most 100000"),
        (np.zeros((0, 4, 3), np.uint8), "expected 3 channels"),
    ],
)
def test_what_is_no_image_is_named(data, message):
    with pytest.raises(BrokenRecord, match=f"^x: .*{message}"):
        images.decode(data, Form(3, max_pixels=100_000), "x")


def test_values_that_are_not_finite_are_broken():
    with pytest.raises(BrokenRecord, match="x: holds values that are not finite"):
        images.decode(np.array([[1, np.nan]], np.float32), Form(1, floats=True), "x")

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from mae_jax.data import images, prepare
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
        (npy(BANDS[..., :3])[:-9], "ends too early"),
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


def headed(header: bytes, content: bytes = b"", version=1) -> bytes:
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + content


def member(content: bytes, packing=zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as files:
        files.writestr("image.npy", content)
    return buffer.getvalue()


def claims(shape, kind="|u1") -> bytes:
    return repr({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"


def peak(act) -> int:
    """Bytes that were taken at most, and given back."""
    tracemalloc.start()
    try:
        with pytest.raises(BrokenRecord):
            act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


ZEROS = bytes(30_000_000)


@pytest.mark.parametrize(
    "data",
    [
        member(headed(claims((1400, 1400, 1400)), ZEROS)),
        member(headed(claims((1400, 1400), "|V100000"), ZEROS)),
        member(headed(claims((1400, 1400), "|S100000"), ZEROS)),
        member(headed(b" " * 30_000_000, version=2)),
        member(headed(claims((3000, 3000, 3)), ZEROS), zipfile.ZIP_LZMA),
        member(headed(claims((3000, 3000, 100)), ZEROS)),
    ],
    ids=["cube", "wide values", "strings", "header", "packing", "channels"],
)
def test_nothing_is_unpacked_that_cannot_be_an_image(data):
    assert peak(lambda: images.decode(data, Form(3), "x")) < 2_000_000
    assert peak(lambda: prepare.check(data, "x")) < 4_000_000


def test_no_more_memory_is_taken_than_the_image_needs():
    data = member(headed(claims((5000, 3000, 2)), ZEROS[:-9]))  # nine bytes short of an image
    assert peak(lambda: images.decode(data, Form(2), "x")) < 1.2 * len(ZEROS)
    assert peak(lambda: prepare.check(data, "x")) < 4_000_000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (headed(b"(" * 5000), "header cannot be read"),
        (headed(claims((-4, 3))), "holds nothing"),
        (headed(claims((4, 3), "<M8[s]")), "no numbers"),
        (b"\x93NUMPY\x07\x00", "version that is known"),
        (b"\x93NUMPY", "version that is known"),
        (b"\x93NUMPY\x01\x00", "EOF"),
        (member(b"nothing"), "version that is known"),
    ],
)
def test_headers_that_lie_are_named(data, message):
    for act in (lambda: images.decode(data, Form(1), "x"), lambda: prepare.check(data, "x")):
        with pytest.raises(BrokenRecord, match=f"^x: .*{message}"):
            act()


def test_damage_in_a_packed_array_is_found():
    data = bytearray(npz(image=np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)))
    data[900] ^= 8
    for act in (lambda: images.decode(bytes(data), Form(1), "x"), lambda: prepare.check(data, "x")):
        with pytest.raises(BrokenRecord, match="^x: "):
            act()

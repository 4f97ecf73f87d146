import io

import numpy as np
import pytest
from PIL import Image

from mae_jax.data import images
from mae_jax.errors import BrokenRecord


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(mode="RGB"):
    ramp = np.linspace(0, 255, 20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)
    return Image.fromarray(ramp).convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG"),
        ("LA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("RGB", "WEBP"), ("RGB", "BMP"),
        ("RGB", "TIFF"), ("CMYK", "TIFF"), ("P", "GIF"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_any_mode_becomes_what_is_asked(mode, kind, channels):
    decoded = images.decode(encoded(picture(mode), kind), channels, "x")
    assert decoded.mode == ("L" if channels == 1 else "RGB")
    assert decoded.size == (30, 20)
    wanted = np.asarray(picture().convert(decoded.mode)).mean()
    # Palettes, dithering and JPEG change single pixels, not the picture's brightness.
    assert abs(np.asarray(decoded).mean() - wanted) < 12


def test_sixteen_bit_is_scaled_not_clipped():
    deep = Image.fromarray(np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16))
    decoded = np.asarray(images.decode(encoded(deep), 1, "x"))
    np.testing.assert_allclose(decoded.ravel(), np.linspace(0, 255, 64), atol=1)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(np.asarray(images.decode(data, 3, "x"))[0, 0], [255, 0, 0])


def test_png_named_otherwise_and_trailing_bytes():
    assert images.decode(encoded(picture()) + b"trailing", 3, "photo.jpg").size == (30, 20)


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\n", b"\0" * 100],
    ids=["empty", "html", "header", "zeros"],
)
def test_garbage_is_named(data):
    with pytest.raises(BrokenRecord, match=r"^a/b\.jpg: "):
        images.decode(data, 3, "a/b.jpg")


def test_truncated_jpeg_is_named():
    data = encoded(picture(), "JPEG")
    with pytest.raises(BrokenRecord, match=r"^cut\.jpg: "):
        images.decode(data[: len(data) // 2], 3, "cut.jpg")


def test_huge_picture_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 500)
    with pytest.raises(BrokenRecord, match="30 x 20 pixels are more than 500"):
        images.decode(encoded(picture()), 3, "big.png")


def test_arrays_pass_as_they_are():
    array = np.arange(5 * 4 * 7, dtype=np.uint8).reshape(5, 4, 7)
    np.testing.assert_array_equal(images.decode(array, 7, "x"), array)
    with pytest.raises(BrokenRecord, match="expected uint8 with 3 channels"):
        images.decode(array, 3, "x")
    with pytest.raises(BrokenRecord, match="1 or 3 channels, not 5"):
        images.decode(encoded(picture()), 5, "x")

import io

import numpy as np
import pytest
from PIL import Image

from mae_jax.data import images
from mae_jax.data.images import Form
from mae_jax.errors import BrokenRecord


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(mode="RGB"):
    ramp = np.linspace(0, 255, 20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)
    return Image.fromarray(ramp).convert(mode)


def photograph():
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg"))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG"),
        ("LA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("RGB", "WEBP"), ("RGB", "BMP"),
        ("RGB", "TIFF"), ("CMYK", "TIFF"), ("P", "GIF"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("floats", [False, True])
def test_any_mode_becomes_what_is_asked(mode, kind, channels, floats):
    decoded = images.decode(encoded(picture(mode), kind), Form(channels, floats), "x")
    assert decoded.shape == (20, 30, channels)
    assert decoded.dtype == (np.float32 if floats else np.uint8)
    wanted = np.asarray(picture().convert("L" if channels == 1 else "RGB")).mean()
    # Palettes, dithering and JPEG change single pixels, not the picture's brightness.
    assert abs(decoded.mean() * (255 if floats else 1) - wanted) < 12


def test_transparency_is_dropped_or_kept_as_a_channel():
    for mode, channels in (("LA", 2), ("RGBA", 4)):
        data = encoded(picture(mode))
        np.testing.assert_array_equal(
            images.decode(data, Form(channels), "x"), np.asarray(picture(mode))
        )
    with pytest.raises(BrokenRecord, match="x: mode RGB, expected 4 channels, RGBA"):
        images.decode(encoded(picture()), Form(4), "x")


def deep():
    return np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_is_scaled_not_clipped(kind):
    data = encoded(Image.fromarray(deep()), kind)
    eight = images.decode(data, Form(1), "x")
    np.testing.assert_allclose(eight.ravel(), np.linspace(0, 255, 64), atol=1)
    np.testing.assert_array_equal(images.decode(data, Form(3), "x"), np.repeat(eight, 3, axis=-1))


def test_sixteen_bit_keeps_all_its_bits_as_float():
    kept = images.decode(encoded(Image.fromarray(deep())), Form(1, floats=True), "x")
    np.testing.assert_allclose(kept[..., 0], deep() / 65535, atol=1e-6)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    first = images.decode(data, Form(3), "x")[0, 0].astype(int)
    np.testing.assert_allclose(first, [255, 0, 0], atol=6)


def test_pages_of_a_tiff_are_channels():
    planes = np.random.default_rng(0).integers(0, 256, (5, 8, 6), np.uint8)
    pages = [Image.fromarray(plane) for plane in planes]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(images.decode(data, Form(5), "x"), np.moveaxis(planes, 0, -1))
    np.testing.assert_array_equal(images.decode(data, Form(1), "x")[..., 0], planes[0])


def test_png_named_otherwise_and_trailing_bytes():
    for kind in ("PNG", "JPEG"):
        data = encoded(picture(), kind) + b"trailing"
        assert images.decode(data, Form(3), "photo.jpg").shape == (20, 30, 3)


def test_orientation_in_exif_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(), "JPEG", exif=exif)
    assert images.decode(data, Form(3), "x").shape == (20, 30, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_smallest_and_longest_images(size, kind):
    image = images.open_image(encoded(Image.new("RGB", size, "red"), kind), Form(3), "x")
    assert (image.width, image.height) == size
    (view,) = image.views([(0, 0, *size)], (8, 8))
    np.testing.assert_allclose(view.mean((0, 1)), [255, 0, 0], atol=3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>not found</html>",
        b"\x89PNG\r\n\x1a\n",
        b"\0" * 100,
        b"\xff\xd8\xff",
        b"PK\x03\x04",
    ],
    ids=["empty", "html", "png", "zeros", "jpeg", "zip"],
)
def test_garbage_is_named(data):
    with pytest.raises(BrokenRecord, match=r"^a/b\.jpg: "):
        images.decode(data, Form(3), "a/b.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_files_are_named(kind, share):
    data = encoded(photograph(), kind)
    with pytest.raises(BrokenRecord, match=r"^cut\.jpg: "):
        images.decode(data[: int(len(data) * share)], Form(3), "cut.jpg")


def test_a_jpeg_with_bytes_too_many_is_whole():
    data = encoded(photograph(), "JPEG")
    found = images.decode(data[:-2] + b"\0" * 9 + data[-2:], Form(3), "x")
    np.testing.assert_allclose(found.astype(int), images.decode(data, Form(3), "x"), atol=2)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_huge_pictures_are_refused_by_their_header(kind):
    with pytest.raises(BrokenRecord, match="big: 30 x 20 pixels are more than 500"):
        images.decode(encoded(picture(), kind), Form(3, max_pixels=500), "big")


def test_a_bomb_is_not_unpacked():
    import resource

    bomb = encoded(Image.new("1", (30000, 30000)))
    assert len(bomb) < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BrokenRecord, match=r"bomb\.png: .*900000000 pixels"):
        images.decode(bomb, Form(3), "bomb.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_views_decoded_in_part_are_those_of_the_whole(channels):
    large = photograph().resize((1280, 854), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=90)
    form = Form(channels)
    lazy = images.open_image(data, form, "x")
    whole = images.Pixels(images.decode(data, form, "x"))
    assert isinstance(lazy, images.Jpeg)
    for box in [(0, 0, 1280, 854), (101, 33, 700, 500), (11, 13, 129, 131), (640, 427, 64, 64)]:
        for around, close in ((False, 1.5), (True, 0.3)):
            a, b = (image.views([box], (64, 64), around=around)[0] for image in (lazy, whole))
            assert np.abs(a.astype(int) - b).mean() < close, (box, around)


def test_views_together_are_decoded_as_finely_as_the_finest_needs():
    data = encoded(photograph(), "JPEG")
    image = images.open_image(data, Form(3), "x")
    boxes = [(0, 0, 600, 400), (10, 10, 40, 40)]
    (fine,) = image.views(boxes[1:], (32, 32))
    np.testing.assert_array_equal(image.views(boxes, (32, 32))[1], fine)


def test_a_file_that_would_run_a_program_is_broken(monkeypatch):
    """PostScript is an image to Pillow, which hands it to Ghostscript."""
    from PIL import EpsImagePlugin

    from mae_jax.data import prepare

    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: started.append("gs"))
    program = encoded(picture(), "EPS")
    message = "^zz.jpg: is none of JPEG, PNG, WEBP, BMP, TIFF, GIF"
    for channels, floats in ((3, False), (1, True), (4, False)):
        with pytest.raises(BrokenRecord, match=message):
            images.decode(program, Form(channels, floats), "zz.jpg")
    with pytest.raises(BrokenRecord, match=message):
        prepare.check(program, "zz.jpg")
    with pytest.raises(BrokenRecord, match=message):
        prepare.Maker(None, "", 8, 95)._shrunk(program, "zz.jpg")
    assert not started


@pytest.mark.parametrize("kind", ["PPM", "TGA", "ICO", "PCX"])
def test_formats_that_the_docs_do_not_name_are_broken(kind):
    with pytest.raises(BrokenRecord, match="x: is none of JPEG"):
        images.decode(encoded(picture(), kind), Form(3), "x")


def test_whatever_a_decoder_raises_is_a_broken_record():
    data = bytearray(encoded(picture("L"), "TIFF"))
    compression = data.find(b"\x03\x01\x03\x00\x01\x00\x00\x00")  # tag 259, one short
    data[compression + 8] = 121  # there is no such compression; Pillow raises KeyError
    with pytest.raises(BrokenRecord, match="^x: "):
        images.decode(bytes(data), Form(1), "x")

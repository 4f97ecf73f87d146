"""Windows of large TIFF files: the same pixels as of the whole, each a record."""

import dataclasses
import os
import pickle
import shutil

import numpy as np
import pytest
import rasterio
from PIL import Image

from mae_jax import errors
from mae_jax.commands.embed import embed
from mae_jax.config import default_config, validate
from mae_jax.data import describe, large, loader, sources, windows
from mae_jax.data.form import Form
from mae_jax.data.images import decode, open_image
from mae_jax.data.order import view_rng
from mae_jax.inference.views import digest
from mae_jax.pixels import Pixels
from mae_jax.weights import export

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def smooth(height=70, width=100, channels=3, dtype=np.uint8, seed=0):
    """A picture with something to see at every scale, (H, W, C)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a) + np.cos(y / b) for a, b in rng.uniform(3, 20, (channels, 2))]
    values = np.stack(waves, -1) / 4 + 0.5
    if np.dtype(dtype).kind == "u":
        return np.round(values * np.iinfo(dtype).max).astype(dtype)
    return (values * 900).astype(dtype)


def tiff(path, values, *, overviews=(), **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = values.shape
    tiles = dict(tiled=True, blockxsize=32, blockysize=32) | more
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count,
        dtype=values.dtype, **tiles,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(values, -1, 0))
        if overviews:
            file.build_overviews(list(overviews), rasterio.enums.Resampling.average)
    return path


def config_of(folder, window=32, channels=3, **data):
    config = default_config()
    config.model.image_size, config.model.patch_size = (16,), (4,)
    config.model.channels = channels
    data = dict(folder=folder and str(folder), split="all", window=window, eval_crop=1.0) | data
    config.data.update(data)
    config.train.epochs = 1.0
    validate(config)
    return config


def opened(folder, window=32, channels=3, **data):
    config = config_of(folder, window, channels, **data)
    return sources.open_source(config.data, "all"), loader.Picture.from_config(config)


@pytest.mark.parametrize(
    "channels, dtype, floats",
    [(3, np.uint8, False), (1, np.uint8, True), (5, np.uint16, False), (7, np.float32, True),
     (1, np.int16, True), (2, np.uint16, True)],
)  # fmt: skip
@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_windows_are_the_same_pixels_as_the_whole(tmp_path, channels, dtype, floats, compress):
    values = smooth(channels=channels, dtype=dtype)
    path = tiff(tmp_path / "a.tif", values, compress=compress)
    form = Form(channels, floats)
    whole = decode(values, form, "x")
    for box in windows.cells((100, 70), 32):
        seen = open_image(large.Window(str(path), box, (100, 70)), form, "x")
        (part,) = seen.views([(0, 0, box.width, box.height)], (box.height, box.width))
        top, left = box.top, box.left
        np.testing.assert_array_equal(part, whole[top : top + box.height, left : left + box.width])


@pytest.mark.parametrize("around", [False, True])
def test_a_view_of_a_window_is_that_of_the_part(tmp_path, around):
    values = smooth()
    path = tiff(tmp_path / "a.tif", values)
    form, box = Form(3), large.Box(20, 11, 48, 40)
    seen = open_image(large.Window(str(path), box, (100, 70)), form, "x")
    for part in [(0, 0, 48, 40), (3, 5, 31, 17), (2.5, 1.25, 20.5, 22.0)]:
        (found,) = seen.views([part], (16, 16), around=around)
        place = (part[0] + 20, part[1] + 11, *part[2:])
        (true,) = open_image(values, form, "x").views([place], (16, 16), around=around)
        np.testing.assert_allclose(found.astype(int), true, atol=1)


def test_smaller_copies_are_read_where_they_are_fine_enough(tmp_path, monkeypatch):
    values = smooth(512, 640)
    path = tiff(tmp_path / "a.tif", values, overviews=(2, 4, 8))
    box = large.Box(0, 0, 512, 512)
    seen = open_image(large.Window(str(path), box, (640, 512)), Form(3), "x")
    levels, read = [], large.read
    monkeypatch.setattr(large, "read", lambda *a: levels.append(a[-1]) or read(*a))
    (true,) = open_image(values, Form(3), "x").views([(0, 0, 512, 512)], (32, 32), around=True)
    for around, size, level in [
        (False, 64, 2), (False, 65, 1), (False, 300, None), (True, 64, 0), (True, 32, 1)
    ]:  # fmt: skip
        (found,) = seen.views([(0, 0, 512, 512)], (size, size), around=around)
        assert levels.pop() == level
    assert np.abs(found.astype(int) - true).mean() < 1.5
    (moved,) = seen.views([(101, 33, 402, 390)], (32, 32))
    (true,) = open_image(values, Form(3), "x").views([(101, 33, 402, 390)], (32, 32))
    assert np.abs(moved.astype(int) - true).mean() < 4  # a box that is elsewhere has some 40


def test_cells_cover_an_image(tmp_path):
    for size in [(100, 70), (32, 32), (33, 64), (5, 90), (31, 31)]:
        seen = np.zeros(size[::-1], int)
        boxes = windows.cells(size, 32)
        for left, top, width, height in boxes:
            assert width == min(32, size[0]) and height == min(32, size[1])
            seen[top : top + height, left : left + width] += 1
        assert seen.min() == 1
        assert len(boxes) == -(-size[0] // 32) * -(-size[1] // 32)


def test_records_are_windows_with_their_image_s_label(tmp_path):
    for kind, count in (("city", 2), ("forest", 1)):
        for i in range(count):
            tiff(tmp_path / "set" / kind / f"{i}.tif", smooth(seed=i))
    source, picture = opened(tmp_path / "set")
    assert len(source) == 3 * 12 and source.classes == ["city", "forest"]
    assert source.labels().tolist() == [0] * 24 + [1] * 12
    assert source.name(0) == "city/0.tif[0,0]" and source.name(35) == "forest/0.tif[68,38]"
    assert describe.describe(source) == "36 windows of 2 classes: city (24), forest (12)"
    batches = list(loader.plain_batches(source, picture, 5))
    assert sum(int(batch["weight"].sum()) for batch in batches) == 36
    first = open_image(smooth(), Form(3), "x").views([(0, 0, 32, 32)], (16, 16), around=True)[0]
    np.testing.assert_allclose(batches[0]["image"][0].astype(int), first, atol=1)
    assert len({digest(source[i].data) for i in range(36)}) == 36
    again = pickle.loads(pickle.dumps(source))
    assert again.fingerprint() == source.fingerprint()
    assert opened(tmp_path / "set", 16)[0].fingerprint() != source.fingerprint()


def test_splits_and_tables_are_of_images(tmp_path):
    for i in range(10):
        tiff(tmp_path / "set" / f"{i}.tif", smooth(40, 40, seed=i))
    (tmp_path / "labels.csv").write_text("name,class\n3.tif,yes\n4.tif,no\n")
    config = config_of(tmp_path / "set", labels=str(tmp_path / "labels.csv"))
    parts = [sources.open_source(config.data, split) for split in ("all[:70%]", "all[70%:]")]
    assert [len(part) for part in parts] == [28, 12]
    images = [{part.name(i).split("[")[0] for i in range(len(part))} for part in parts]
    assert not images[0] & images[1] and len(images[0] | images[1]) == 10
    whole = sources.open_source(config.data, "all")
    assert len(sources.labelled(whole)) == 8
    (tmp_path / "set" / "table.csv").write_text("path,label\n1.tif,a\n7.tif,b\n")
    source, _ = opened(tmp_path / "set" / "table.csv")
    assert [source.name(i) for i in (0, 7)] == ["1.tif[0,0]", "7.tif[8,8]"]
    assert source.labels().tolist() == [0] * 4 + [1] * 4


def test_training_draws_windows_by_seed_epoch_and_record(tmp_path):
    tiff(tmp_path / "set" / "a.tif", smooth(96, 160))
    source, picture = opened(tmp_path / "set", crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    image = open_image(source[7].data, picture.form, "x")
    box = source[7].data.box
    places = np.array([
        image.moved((0, 0, 32, 32), view_rng(0, epoch, 7))[:2] for epoch in range(300)
    ])  # fmt: skip
    for axis, (at, most) in enumerate(((box.left, 160), (box.top, 96))):
        low, high = max(at - 16, 0) - at, min(at + 16, most - 32) - at
        assert places[:, axis].min() == low and places[:, axis].max() == high
        assert abs(places[:, axis].mean() - (low + high) / 2) < 2
    make = lambda **more: loader.TrainBatches(  # noqa: E731
        source, picture, batch_size=6, seed=3, steps=9, **more
    )
    batches, again = make(), make(rows=[2, 5])
    for step in (0, 4, 7):
        np.testing.assert_array_equal(batches[step]["image"][[2, 5]], again[step]["image"])
    assert not (batches[0]["image"] == batches[5]["image"]).all()
    for number, processes in enumerate((0, 2)):
        found = list(batches.iterate(4, processes))
        np.testing.assert_array_equal(found[0]["image"], batches[4]["image"])
        assert len(found) == 5, number


def test_a_window_may_be_the_whole_of_a_small_image(tmp_path):
    tiff(tmp_path / "set" / "a.tif", smooth(20, 90))
    source, picture = opened(tmp_path / "set")
    assert [source.name(i) for i in range(3)] == ["a.tif[0,0]", "a.tif[32,0]", "a.tif[58,0]"]
    image = open_image(source[0].data, picture.form, "x")
    assert (image.height, image.width) == (20, 32)
    for epoch in range(9):
        assert image.moved((0, 0, 5, 5), view_rng(0, epoch, 0))[1] == 0
    assert picture.augmented(image, [view_rng(0, 0, 0)])[0].shape == (16, 16, 3)


def test_background_is_left_out(tmp_path, capsys):
    values = np.full((64, 96, 3), 250, np.uint8)
    values[:32, 32:64] = smooth(32, 32) // 2
    values[32:48, :32] = 9
    tiff(tmp_path / "set" / "a.tif", values)
    source, _ = opened(tmp_path / "set", background=(0.9, 1.0), background_share=0.5)
    assert [source.name(i) for i in range(len(source))] == ["a.tif[32,0]", "a.tif[0,32]"]
    assert "4 of 6 windows are background, and left out" in capsys.readouterr().err
    source, _ = opened(tmp_path / "set", background=(0.9, 1.0), background_share=0.4)
    assert len(source) == 1
    tiff(tmp_path / "set" / "a.tif", np.where(values == 250, 9, values), compress="deflate")
    assert len(opened(tmp_path / "set", background=(0.9, 1.0), background_share=0.4)[0]) == 6
    with pytest.raises(errors.UsageError, match="all 6 windows are background by more than"):
        opened(tmp_path / "set", background=(0.0, 1.0), background_share=0.4)


def test_pixels_without_data_are_background_and_nan(tmp_path):
    values = smooth(64, 64, 2, np.float32)
    values[:, 20:] = -1e4
    tiff(tmp_path / "set" / "a.tif", values, nodata=-1e4)
    more = dict(channels=2, pixels="float32", mean=(0.0,), std=(1.0,))
    for nodata in ("gdal", "-10000"):
        source, picture = opened(tmp_path / "set", nodata=nodata, background_share=0.9, **more)
        assert [source.name(i) for i in range(len(source))] == ["a.tif[0,0]", "a.tif[0,32]"]
        view = picture.plain(open_image(source[0].data, picture.form, "x"))
        assert np.isnan(view[:, 12:]).all() and np.isfinite(view[:, :8]).all()
        np.testing.assert_allclose(view[:, :8].mean(), values[:32, :16].mean(), rtol=0.02)
    alpha = np.dstack([smooth(64, 64), np.where(np.arange(64) < 20, 255, 0)[None].repeat(64, 0)])
    path = tmp_path / "rgba" / "a.tif"
    tiff(path, alpha.astype(np.uint8), photometric="RGB", alpha="YES")
    source, picture = opened(
        tmp_path / "rgba", nodata="alpha", background_share=0.9, **(more | {"channels": 3})
    )
    assert len(source) == 2
    plain, other = opened(tmp_path / "rgba")
    assert len(plain) == 4
    assert other.plain(open_image(plain[0].data, other.form, "x")).shape == (16, 16, 3)


@pytest.mark.parametrize("config, message", [
    (dict(window=0), "data.window is 0; it must be a whole number at least 1"),
    (dict(window=8000), "data.window 8000 squared is more than data.max_pixels"),
    (dict(cache=True), "data.cache keeps images whole"),
    (dict(window=None, background=(0.0, 0.1)), "is of windows, and data.window is not set"),
    (dict(background=(0.0, 0.1)), "leaves no window out as long as"),
    (dict(background_share=0.5), "needs data.background or data.nodata"),
    (dict(background=(0.5, 0.1)), r"must be .*\(low, high\) with low <= high"),
    (dict(folder=None, name="mnist"), "is of TIFF files in data.folder, and data.name is 'mnist'"),
])  # fmt: skip
def test_mistakes_in_a_config_are_one_sentence(config, message):
    with pytest.raises(errors.UsageError, match=message):
        config_of(**({"folder": "x"} | config))


def test_what_is_no_tiff_file_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    Image.fromarray(smooth()).save(tmp_path / "set" / "a.png")
    with pytest.raises(errors.UsageError, match="of TIFF files, and 'a.png' is none"):
        opened(tmp_path / "set")
    with pytest.raises(errors.UsageError, match="on a local disk, and data.folder .* has none"):
        (tmp_path / "set" / "b.tif").write_bytes(b"II*\0")
        opened(f"file://{tmp_path / 'set'}")


def test_files_that_cannot_be_read_are_broken_records(tmp_path):
    good, folder = smooth(), tmp_path / "set"
    tiff(folder / "a.tif", good, compress="deflate")
    (folder / "b.tif").write_bytes(b"II*\0 nonsense")
    (folder / "c.tif").write_bytes(b"")
    Image.fromarray(good[..., 0]).convert("P").save(folder / "d.tif")
    Image.fromarray(good[..., 0] > 99).save(folder / "e.tif")
    tiff(folder / "f.tif", good[..., :2])
    tiff(folder / "g.tif", good[..., :1].astype(np.complex64))
    whole = (folder / "a.tif").read_bytes()
    (folder / "h.tif").write_bytes(whole[: len(whole) // 2])
    source, picture = opened(folder)
    reasons = {}
    for i in range(len(source)):
        name = source.name(i).split("[")[0]
        try:
            picture.plain(open_image(source[i].data, picture.form, source.name(i)))
        except errors.BrokenRecord as error:
            reasons.setdefault(name, str(error))
    assert set(reasons) == {f"{c}.tif" for c in "bcdefgh"}
    for name, words in (
        ("d", "palette"), ("e", "1 bits"), ("f", "expected 3 channels"), ("g", "complex64"),
    ):  # fmt: skip
        assert words in reasons[f"{name}.tif"]
        assert reasons[f"{name}.tif"].startswith(f"{name}.tif[0,0]: ")


def test_a_file_that_is_not_tiled_is_told_of(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(large, "_SHORT", 64)
    tiff(tmp_path / "set" / "a.tif", smooth(), tiled=False, blockxsize=None, blockysize=16)
    opened(tmp_path / "set")
    assert "a.tif is not tiled" in capsys.readouterr().err


def test_grey_images_among_colours_are_both(tmp_path):
    tiff(tmp_path / "set" / "a.tif", smooth()[..., :1])
    tiff(tmp_path / "set" / "b.tif", smooth())
    source, picture = opened(tmp_path / "set")
    views = [picture.plain(open_image(source[i].data, picture.form, "x")) for i in (0, 12)]
    np.testing.assert_array_equal(views[0], np.repeat(views[1][..., :1], 3, axis=-1))


@pytest.mark.parametrize("nodata", ["-9999", "nan"])
def test_smaller_copies_that_know_nothing_of_missing_pixels_are_not_read(tmp_path, nodata):
    values = smooth(128, 128, 1, np.float32) / 900 + 100
    missing = np.random.default_rng(0).random((128, 128, 1)) < 0.3
    whole = np.where(missing, np.float32(nodata), values)
    form = Form(1, floats=True, nodata=nodata)
    (true,) = open_image(whole, form, "x").views([(0, 0, 128, 128)], (8, 8))
    for tag in (None, float(nodata)):
        path = tiff(tmp_path / "set" / f"{tag}.tif", whole, overviews=(2, 4), nodata=tag)
        window = large.Window(str(path), large.Box(0, 0, 128, 128), (128, 128))
        (found,) = open_image(window, form, "x").views([(0, 0, 128, 128)], (8, 8))
        assert np.isnan(found).mean() < 0.2 and 99 < np.nanmin(found) <= np.nanmax(found) < 102
        if tag is None:
            np.testing.assert_array_equal(found, true)
        (share,) = large.background(str(path), [window.box], "x", nodata=nodata)
        assert 0.15 < share < 0.45 or tag is not None


def test_a_window_that_cannot_be_judged_is_kept_and_so_are_the_others(tmp_path):
    values = smooth(64, 64, 1, np.float32)
    values[40:, 40:] = np.nan
    tiff(tmp_path / "set" / "a.tif", values)
    source, picture = opened(
        tmp_path / "set", channels=1, pixels="float32", mean=(0.0,), std=(1.0,),
        background=(-9.0, -8.0), background_share=0.5,
    )  # fmt: skip
    assert len(source) == 4
    with pytest.raises(errors.BrokenRecord, match="not finite"):
        picture.plain(open_image(source[3].data, picture.form, "x"))
    # Of 16-bit integers whatever pixels are to become.
    tiff(tmp_path / "deep" / "a.tif", smooth(64, 64, 1, np.int16) - 100)
    with pytest.raises(errors.UsageError, match="all 4 windows are background"):
        opened(tmp_path / "deep", channels=1, background=(-200.0, 9e3), background_share=0.9)


def test_a_file_that_has_changed_is_another(tmp_path):
    path = tiff(tmp_path / "set" / "a.tif", np.full((32, 32, 3), 10, np.uint8))
    source, picture = opened(tmp_path / "set")
    first = picture.plain(open_image(source[0].data, picture.form, "x"))
    before, about = digest(source[0].data), path.stat()
    tiff(path, np.full((32, 32, 3), 60, np.uint8))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    again, _ = opened(tmp_path / "set")
    assert digest(again[0].data) != before
    assert (
        picture.plain(open_image(again[0].data, picture.form, "x"))[0, 0, 0] == 60 != first[0, 0, 0]
    )
    shutil.move(tmp_path / "set", tmp_path / "moved")
    assert digest(opened(tmp_path / "moved")[0][0].data) == digest(again[0].data)


def test_bands_alpha_pages_and_names(tmp_path):
    folder = tmp_path / "set"
    bands = smooth(32, 32, 4)
    bands[..., 3] = 0
    tiff(folder / "a.tif", bands, photometric="MINISBLACK")
    more = dict(pixels="float32", mean=(0.0,), std=(1.0,))
    source, picture = opened(folder, nodata="alpha", **more)
    with pytest.raises(errors.BrokenRecord, match="expected 3 channels"):
        picture.plain(open_image(source[0].data, picture.form, "x"))
    grey = np.dstack([smooth(32, 32, 1), np.where(np.arange(32) < 8, 0, 255)[None].repeat(32, 0)])
    path = tiff(tmp_path / "g" / "a.tif", grey.astype(np.uint8), alpha="YES")
    window = large.Window(str(path), large.Box(0, 0, 32, 32), (32, 32))
    whole = [(0, 0, 32, 32)]
    (kept,) = open_image(window, Form(2), "x").views(whole, (32, 32))
    np.testing.assert_array_equal(kept, grey)
    (colours,) = open_image(window, Form(3, True, nodata="alpha"), "x").views(whole, (32, 32))
    assert np.isnan(colours[:, :8]).all() and not np.isnan(colours[:, 8:]).any()
    frames = [Image.fromarray(smooth(32, 32, 1)[..., 0])] * 3
    (tmp_path / "p").mkdir()
    frames[0].save(tmp_path / "p" / "a.tif", save_all=True, append_images=frames[1:])
    (tmp_path / "p" / os.fsdecode(b"caf\xe9.tif")).write_bytes(path.read_bytes())
    source, picture = opened(tmp_path / "p")
    reasons = ["3 pages; a window is of one", "no UTF-8, which GDAL needs"]
    assert len(source) == 2
    for index in range(2):
        with pytest.raises(errors.BrokenRecord, match=reasons[index]):
            picture.plain(open_image(source[index].data, picture.form, source.name(index)))
    with pytest.raises(errors.UsageError, match="model.channels 4 keeps it as one; set it to 3"):
        config_of("x", channels=4, nodata="alpha", **more)


def test_embed_needs_nothing_said_of_pixels_that_the_weights_know(tmp_path):
    """By a config of something else: of colours, for training with augmentation of uint8."""
    from made import SMALL, random_weights

    values = smooth(64, 96, 4, np.float32)
    values[:, 40:] = -5
    folder = tiff(tmp_path / "set" / "a.tif", values).parent
    ours = SMALL | dict(image_size=(16, 16), patch_size=(8, 8), channels=4)
    weights = random_weights(**ours).encoder()
    pixels = Pixels((16, 16), 4, "float32", (400.0,), (300.0,), crop=1.0, nodata="-5")
    source = tmp_path / "weights"
    export.export(dataclasses.replace(weights, pixels=pixels), source, format="safetensors")
    asked = {"data.folder": str(folder), "data.split": "all", "data.window": 32}
    config = "configs/folder_finetune.py"
    for share, count in ((1.0, 6), (0.5, 2)):
        made = embed(
            source, out=tmp_path / f"{share}.npz", config=config,
            overrides=asked | {"data.background_share": share},
        )  # fmt: skip
        assert made["images"] == count
    with np.load(tmp_path / "0.5.npz") as file:
        assert np.isfinite(file["features"]).all()
    with pytest.raises(errors.UsageError, match="is of windows, and data.window is not set"):
        embed(
            source, out=tmp_path / "x.npz", config=config,
            overrides=asked | {"data.window": None, "data.background_share": 0.5},
        )  # fmt: skip


def test_damage_is_told_where_the_process_has_written_with_gdal(tmp_path):
    """Which makes rasterio raise GDAL's own errors, in place of its own."""
    whole = tmp_path / "whole.tif"
    with rasterio.open(whole, "w", "GTiff", 64, 64, 1, dtype="uint8") as file:
        file.write(np.arange(4096, dtype=np.uint8).reshape(1, 64, 64))
    data, refused = whole.read_bytes(), 0
    for place in range(200):
        path = tmp_path / f"{place}.tif"
        path.write_bytes(data[:place] + b"\xff" + data[place + 1 :])
        try:
            large.size(str(path), path.name)
        except errors.BrokenRecord:
            refused += 1
    assert 20 < refused < 200

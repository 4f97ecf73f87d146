"""Pixels without data: in no statistics, target, loss or gradient, whatever stands there."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from mae_jax import errors
from mae_jax.config import validate
from mae_jax.data import check, loader, sources
from mae_jax.data.form import Form
from mae_jax.data.images import decode, open_image
from mae_jax.models import patches
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.parallel import Layout
from mae_jax.pixels import Pixels
from mae_jax.train import loop, state, step
from mae_jax.train.task import prepare
from mae_jax.weights.pretrained import _taken

SIDE, SHARE = 16, 0.3


def gappy(rng, count=12, channels=2):
    """(count, SIDE, SIDE, channels) float32, and which pixels have data, (count, SIDE, SIDE, 1)."""
    values = rng.normal(50, 9, (count, SIDE, SIDE, channels)).astype(np.float32)
    return values, rng.random((count, SIDE, SIDE, 1)) >= SHARE


def folder_of(place, images):
    place.mkdir()
    for i, image in enumerate(images):
        np.save(place / f"{i:02}.npy", image)
    return place


def config_for(folder, nodata, channels=2):
    from mae_jax.config import default_config

    config = default_config()
    model, data, steps = config.model, config.data, config.train
    model.image_size, model.patch_size, model.channels = (SIDE, SIDE), (4, 4), channels
    model.width, model.depth, model.heads = 16, 1, 2
    model.decoder_width, model.decoder_depth, model.decoder_heads = 16, 1, 2
    data.folder, data.split, data.eval_split, data.batch_size = str(folder), "all", "all", 8
    data.pixels, data.mean, data.std, data.nodata = "float32", (50.0,), (9.0,), nodata
    data.workers, data.eval_crop = 0, 1.0
    steps.steps, steps.warmup_steps, steps.base_lr = 4, 1, 1e-2
    config.checkpoint.every_steps = 4
    config.log.every_steps, config.log.tensorboard = 1, False
    config.log.eval_every_epochs = config.log.panel_every_epochs = 1.0
    return config


def measures(workdir):
    told = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
    kept = ("step", "loss", "grad_norm", "eval_loss")
    return [{k: v for k, v in line.items() if k in kept} for line in told]


def test_a_run_does_not_depend_on_what_stands_where_there_is_no_data(tmp_path):
    """30% of the pixels hold -9999, a huge number, or NaN: loss and gradient are the same."""
    values, known = gappy(np.random.default_rng(0))
    told = {}
    for nodata in ("-9999", "3e30", "nan"):
        folder = folder_of(tmp_path / nodata, np.where(known, values, np.float32(nodata)))
        workdir = tmp_path / f"run{nodata}"
        loop.run(config_for(folder, nodata), str(workdir))
        told[nodata] = measures(workdir)
        assert (workdir / "panels").is_dir()
    assert len(told["nan"]) > 4
    assert all(np.isfinite(v) for line in told["nan"] for v in line.values())
    assert told["-9999"] == told["3e30"] == told["nan"]


def steps(config, devices):
    """Losses and norms of the first steps on so many devices."""
    task = prepare(config, devices)
    layout = Layout.of(task.split, jax.devices()[:devices])
    current = state.create(task.objective, task.recipe, config.seed, layout)
    found = []
    for index, batch in zip(range(3), task.batches(layout), strict=False):
        del index
        current, numbers = step.train_step(
            current, step.put(batch, layout, config.data.batch_size), np.uint32(config.seed),
            objective=task.objective, recipe=task.recipe, layout=layout,
            accumulate=config.train.accumulate,
        )  # fmt: skip
        found += [float(numbers["loss"]), float(numbers["grad_norm"])]
    return found


@pytest.mark.parametrize("accumulate, devices", [(2, 1), (1, 8), (2, 4)])
def test_images_count_the_same_in_parts_and_on_several_devices(tmp_path, accumulate, devices):
    values, known = gappy(np.random.default_rng(1))
    known[:3] = np.random.default_rng(2).random((3, SIDE, SIDE, 1)) < 0.1  # almost nothing
    folder = folder_of(tmp_path / "set", np.where(known, values, np.float32("nan")))
    config = config_for(folder, "nan")
    whole = steps(config, 1)
    config.train.accumulate = accumulate
    assert steps(config, devices) == pytest.approx(whole, rel=2e-4)


@pytest.mark.parametrize("norm_pix", [True, False])
@pytest.mark.parametrize("loss_on", ["hidden", "all"])
def test_loss_is_the_mean_over_what_has_data(norm_pix, loss_on):
    model = MaskedAutoencoder(
        image_size=8, patch_size=4, channels=1, width=16, depth=1, heads=2, decoder_width=16,
        decoder_depth=1, decoder_heads=2, mask_ratio=0.5, norm_pix=norm_pix, loss_on=loss_on,
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 8, 8, 1)).astype(np.float32)
    known = rng.random((3, 8, 8, 1)) < 0.6
    known[0] = False
    noise = rng.random((3, 4)).astype(np.float32)
    found = model(images, noise=noise, known=known)
    cut = lambda x: x.reshape(3, 2, 4, 2, 4).swapaxes(2, 3).reshape(3, 4, 16)  # noqa: E731
    expected = []
    for image, told, pred, mask in zip(
        cut(images), cut(known), found.pred, found.mask, strict=True
    ):
        squares = []
        for patch, with_data, guess, hidden in zip(image, told, pred, mask, strict=True):
            true = patch[with_data]
            if norm_pix and len(true):
                deviation = true.var(ddof=1) if len(true) > 1 else 0
                true = (true - true.mean()) / np.sqrt(deviation + 1e-6)
            if hidden or loss_on == "all":
                squares += list((np.asarray(guess)[with_data] - true) ** 2)
        expected.append(np.mean(squares) if squares else 0)
    assert float(found.loss) == pytest.approx(np.mean(expected), rel=1e-5)
    gaps = jnp.where(known, images, jnp.nan)
    inside = model.loss(
        gaps, noise=noise, standardise=jnp.nan_to_num, known=lambda patches: ~jnp.isnan(patches)
    )
    assert float(inside) == pytest.approx(float(found.loss), rel=1e-5)
    drawn = model.predicted_images(images, found, known)
    assert np.isfinite(np.asarray(drawn)).all()


def test_targets_of_whole_patches_are_refused(tmp_path):
    folder = folder_of(tmp_path / "set", gappy(np.random.default_rng(0))[0])
    config = config_for(folder, "nan")
    config.model.target, config.model.pca_components = "pca", 4
    with pytest.raises(errors.UsageError, match="model.target 'pca' is of whole patches"):
        validate(config)
    config = config_for(folder, "-1")
    config.data.pixels = None
    with pytest.raises(errors.UsageError, match=r"data.nodata '-1' needs data.pixels='float32'"):
        validate(config)
    for wrong in ("none", "1,5", "inf", ""):
        config = config_for(folder, wrong)
        with pytest.raises(errors.UsageError, match="data.nodata is .* one of nan, alpha"):
            validate(config)


def test_statistics_are_of_what_has_data(tmp_path):
    values, known = gappy(np.random.default_rng(3))
    folder = folder_of(tmp_path / "set", np.where(known, values, -9999))
    config = config_for(folder, "-9999")
    source = sources.open_source(config.data, "all")
    found = check.statistics(source, loader.Picture.from_config(config), 100, workers=1)
    whole = np.broadcast_to(known, values.shape)
    for c in range(2):
        seen = values[..., c][whole[..., c]]
        assert found["mean"][c] == pytest.approx(seen.mean(), abs=1e-3)
        assert found["std"][c] == pytest.approx(seen.std(), abs=1e-3)


def test_an_image_may_have_no_data_at_all(tmp_path):
    values, known = gappy(np.random.default_rng(4), count=8)
    known[:5] = False
    folder = folder_of(tmp_path / "set", np.where(known, values, np.nan))
    loop.run(config_for(folder, "nan"), str(tmp_path / "run"))
    assert all(np.isfinite(v) for line in measures(tmp_path / "run") for v in line.values())


def test_a_view_is_of_the_pixels_with_data_alone():
    values, known = gappy(np.random.default_rng(5), count=1)
    image = open_image(np.where(known[0], values[0], np.nan), FLOATS, "x")
    (view,) = image.views([(1, 2, 12, 11)], (8, 8))
    assert view.shape == (8, 8, 2) and not np.isnan(view).all()
    assert np.nanmin(view) > 0 and np.nanmax(view) < 120
    flat = np.where(known[0], np.float32(7), np.nan).repeat(2, -1)
    seen = open_image(flat, FLOATS, "x").views([(0, 0, SIDE, SIDE)], (9, 9), around=True)[0]
    np.testing.assert_allclose(seen[~np.isnan(seen)], 7, rtol=1e-6)
    empty = open_image(np.full_like(flat, np.nan), FLOATS, "x")
    assert np.isnan(empty.views([(0, 0, SIDE, SIDE)], (8, 8))[0]).all()


FLOATS = Form(2, floats=True, nodata="nan")


def encoded(image, tmp_path, suffix=".png", **more):
    path = tmp_path / f"image{suffix}"
    image.save(path, **more)
    return path.read_bytes()


def test_transparent_pixels_have_no_data(tmp_path):
    rng = np.random.default_rng(6)
    pixels = rng.integers(0, 256, (5, 6, 4), np.uint8)
    pixels[..., 3] = rng.choice([0, 1, 255], (5, 6))
    missing = np.repeat(pixels[..., 3:] == 0, 3, -1)
    expected = np.where(missing, np.nan, pixels[..., :3] / np.float32(255))
    form = Form(3, floats=True, nodata="alpha")
    data = encoded(Image.fromarray(pixels), tmp_path)
    np.testing.assert_allclose(decode(data, form, "x"), expected, rtol=1e-6)
    np.testing.assert_allclose(decode(pixels, form, "x"), expected, rtol=1e-6)
    moved = np.moveaxis(pixels, -1, 0)
    np.testing.assert_allclose(decode(moved, form, "x"), expected, rtol=1e-6)
    # Grey with alpha, a palette with a transparent colour, and none of it.
    grey = Image.fromarray(pixels[..., [0, 3]], "LA")
    one = decode(encoded(grey, tmp_path), Form(1, True, nodata="alpha"), "x")
    np.testing.assert_array_equal(np.isnan(one[..., 0]), missing[..., 0])
    palette = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 200, 0, 0])
    found = decode(encoded(palette, tmp_path, transparency=0), form, "x")
    np.testing.assert_array_equal(np.isnan(found[..., 0]), [[True, False], [False, True]])
    plain = decode(encoded(Image.fromarray(pixels[..., :3]), tmp_path), form, "x")
    assert not np.isnan(plain).any()


def test_a_number_or_what_the_file_says_has_no_data(tmp_path):
    deep = np.array([[0, 7], [65535, 0]], np.uint16)
    data = encoded(Image.fromarray(deep), tmp_path, ".tif")
    found = decode(data, Form(1, True, nodata="0"), "x")[..., 0]
    np.testing.assert_allclose(found, [[np.nan, 7 / 65535], [1, np.nan]], rtol=1e-6)
    tagged = encoded(Image.fromarray(deep), tmp_path, ".tif", tiffinfo={42113: "65535"})
    found = decode(tagged, Form(1, True, nodata="gdal"), "x")[..., 0]
    np.testing.assert_array_equal(np.isnan(found), deep == 65535)
    assert not np.isnan(decode(data, Form(1, True, nodata="gdal"), "x")).any()
    odd = encoded(Image.fromarray(deep), tmp_path, ".tif", tiffinfo={42113: "much"})
    with pytest.raises(errors.BrokenRecord, match="x: its tag .* says 'much', no number"):
        decode(odd, Form(1, True, nodata="gdal"), "x")
    assert decode(odd, Form(1, True), "x").shape == (2, 2, 1)
    # Of a colour all channels must be that; a number that no pixel can have is none's.
    colour = np.array([[[0, 0, 0], [0, 5, 0]]], np.uint8)
    assert np.isnan(decode(colour, Form(3, True, nodata="0"), "x")).sum() == 3
    for number in ("-9999", "0.5", "256"):
        assert not np.isnan(decode(colour, Form(3, True, nodata=number), "x")).any()
    # NaN is one value by itself, and refused where nothing has none.
    bands = np.array([[[1, np.nan], [2, 3]]], np.float32)
    for nodata in ("nan", "gdal", "alpha", "-9999"):
        assert np.isnan(decode(bands, Form(2, True, nodata=nodata), "x")).sum() == 1
    with pytest.raises(errors.BrokenRecord, match="not finite; data.nodata='nan' leaves out"):
        decode(bands, Form(2, True), "x")
    with pytest.raises(errors.BrokenRecord, match="not finite$"):
        decode(np.where(bands == 3, np.inf, bands), FLOATS, "x")


def test_weights_say_what_has_no_data():
    pixels = Pixels((8, 8), 1, "float32", (1.0,), (2.0,), nodata="-9999")
    assert pixels.settings()["nodata"] == "-9999"
    batch = jnp.array([[[[3.0]], [[jnp.nan]]]])
    np.testing.assert_array_equal(pixels.standardise(batch)[0, :, 0, 0], [1, 0])
    np.testing.assert_array_equal(pixels.known(batch)[0, :, 0, 0], [True, False])
    shown = pixels.shown(np.asarray(batch), like=np.asarray(batch))
    assert np.isfinite(shown).all() and shown[0, 1, 0, 0] == 0
    with pytest.raises(errors.UsageError, match="needs data.pixels='float32'"):
        Pixels((8, 8), 1, nodata="0")


def test_a_number_is_of_all_channels_before_they_become_grey(tmp_path):
    colours = np.zeros((1, 3, 3), np.uint8)
    colours[0, 0, 0], colours[0, 1, 2] = 1, 4
    data = encoded(Image.fromarray(colours), tmp_path)
    found = decode(data, Form(1, True, nodata="0"), "x")
    assert np.isnan(found[0, :, 0]).tolist() == [False, False, True]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_arrays_of_a_caller_have_none_where_the_weights_say_so(dtype):
    pixels = Pixels((4, 4), 1, "float32", (0.5,), (0.2,), nodata="0")
    images = np.random.default_rng(0).integers(1, 99, (2, 4, 4, 1)).astype(dtype)
    images[:, 1:3] = 0
    taken = _taken(images, pixels)
    assert np.isnan(taken[:, 1:3]).all() and np.isfinite(taken[:, 0]).all()
    scale = 1 if dtype == np.float32 else np.iinfo(dtype).max
    np.testing.assert_allclose(taken[:, 0], images[:, 0] / scale, rtol=1e-6)


def test_statistics_of_nothing_say_so(tmp_path):
    values, _ = gappy(np.random.default_rng(7), count=2)
    values[..., 1] = np.nan
    folder_of(tmp_path / "one", values)
    folder_of(tmp_path / "none", np.full_like(values, np.nan))
    for name, words in (
        ("one", "none has data in channel 1"),
        ("none", "none of 2 images has dat"),
    ):
        config = config_for(tmp_path / name, "nan")
        source = sources.open_source(config.data, "all")
        with pytest.raises(errors.BrokenRecord, match=words):
            check.statistics(source, loader.Picture.from_config(config), 10, workers=1)


def test_moments_are_of_known_values_whatever_the_others_are():
    rng = np.random.default_rng(8)
    values, known = rng.normal(3, 2, (2, 5, 12)).astype(np.float32), rng.random((2, 5, 12)) < 0.6
    values[~known] = 1e6
    mean, deviation = patches.moments(jnp.asarray(values), jnp.asarray(known))
    for at in np.ndindex(2, 5):
        seen = values[at][known[at]]
        assert float(mean[at][0]) == pytest.approx(seen.mean(), rel=1e-5)
        assert float(deviation[at][0]) == pytest.approx(np.sqrt(seen.var(ddof=1) + 1e-6), rel=1e-4)

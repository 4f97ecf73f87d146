"""Sets of other kinds than photographs pre-train with one change of the config each."""

import numpy as np
import pytest
from PIL import Image

from mae_jax.config import default_config
from mae_jax.data import check, loader, sources
from mae_jax.errors import UsageError
from mae_jax.train import loop, metrics
from mae_jax.train.task import prepare


@pytest.fixture
def config():
    """Colour photographs in a folder, unlabelled, and a model of a second or two."""
    config = default_config()
    model, data, train = config.model, config.data, config.train
    model.image_size, model.patch_size, model.width, model.depth, model.heads = (8,), (4,), 16, 1, 2
    model.decoder_width, model.decoder_depth, model.decoder_heads = 16, 1, 2
    data.split, data.eval_split, data.batch_size, data.workers = "all[:16]", "all[16:]", 8, 0
    train.steps, train.warmup_epochs = 2, 0.1
    config.log.tensorboard, config.log.every_steps = False, 1
    config.checkpoint.every_epochs = config.log.eval_every_epochs = 100.0
    return config


def run(config, folder, workdir):
    """Loss and panel of a run on a folder."""
    config.data.folder = str(folder)
    summary = loop.run(config, workdir)
    assert np.isfinite(summary["measures"]["eval_loss"]) and summary["panel"] is not None
    return metrics.read(workdir)[0]["loss"]


def scans(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(20):
        pixels = rng.integers(0, 65536, (12, 10), np.uint16)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


def test_grey_sixteen_bit_png(config, tmp_path):
    config.model.channels = 1
    run(config, scans(tmp_path / "scans"), tmp_path / "run")


def test_grey_sixteen_bit_png_with_all_its_bits(config, tmp_path):
    config.model.channels, config.data.pixels, config.data.folder = 1, "float32", "scans"
    with pytest.raises(UsageError, match="need a mean and a deviation in the images' own units"):
        prepare(config, 1)
    config.data.mean, config.data.std = (0.5,), (0.3,)
    run(config, scans(tmp_path / "scans"), tmp_path / "run")


def test_arrays_of_five_channels(config, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "bands").mkdir()
    for index in range(20):
        np.save(tmp_path / "bands" / f"{index:02d}.npy", rng.integers(0, 256, (9, 9, 5), np.uint8))
    config.model.channels = 5
    run(config, tmp_path / "bands", tmp_path / "run")


def test_float_arrays_are_standardised_by_the_statistics_that_are_printed(config, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "bands").mkdir()
    for index in range(20):
        values = rng.normal((280, -3), (12, 0.5), (8, 8, 2)).astype(np.float32)
        np.savez(tmp_path / "bands" / f"{index:02d}.npz", values)
    config.model.channels, config.data.pixels, config.data.eval_crop = 2, "float32", 1.0
    config.data.folder = str(tmp_path / "bands")
    source = sources.open_source(config.data, "all")
    picture = loader.Picture.from_config(check.unstandardised(config))
    found = check.statistics(source, picture, 100, workers=1)
    np.testing.assert_allclose(found["mean"], (280, -3), rtol=0.01)
    np.testing.assert_allclose(found["std"], (12, 0.5), rtol=0.05)
    config.data.mean, config.data.std = tuple(found["mean"]), tuple(found["std"])
    config.model.norm_pix = False
    # Nearly nothing is predicted yet: the loss is the data's variance, which is one.
    assert 0.5 < run(config, tmp_path / "bands", tmp_path / "run") < 2


def test_mixtures_and_repeats(config, tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("many", 30), ("few", 10)):
        (tmp_path / name).mkdir()
        for index in range(count):
            pixels = rng.integers(0, 256, (9, 9, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index:02d}.png")
    config.data.mixture = ((str(tmp_path / "many"), 1.0), (str(tmp_path / "few"), 3.0))
    config.data.split, config.data.eval_split, config.data.repeats = "all", None, 2
    task = prepare(config, 8)
    assert len(task.train) == 40 and task.steps_per_epoch == 10
    assert not task.train.classes
    assert task.train.name(0) == "00.png" and task.train.name(30) == "00.png"
    loop.run(config, tmp_path / "run")
    assert len(metrics.read(tmp_path / "run")) == 2


def test_a_folder_at_a_url(config, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in scans(tmp_path / "scans").iterdir():
        memory.pipe(f"/bucket/scans/{path.name}", path.read_bytes())
    remote = sources.FolderSource("memory://bucket/scans", "all")
    local = sources.FolderSource(str(tmp_path / "scans"), "all")
    assert remote.fingerprint() == local.fingerprint()
    assert remote[3].data == local[3].data and remote.name(3) == local.name(3)

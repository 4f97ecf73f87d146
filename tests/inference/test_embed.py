"""`embed` as a user meets it: in a process that can be killed."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from made import random_weights
from PIL import Image

from mae_jax import cli
from mae_jax.data import sources
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.inference import embed, embedded
from mae_jax.parallel import Layout
from mae_jax.pixels import Pixels
from mae_jax.weights import export
from mae_jax.weights.load import encoder_of


@pytest.fixture
def encoder():
    return encoder_of(random_weights())


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Some thousands of small images in two classes."""
    root, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    for kind in ("a", "b"):
        (root / kind).mkdir()
        for index in range(1500):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / kind / f"{index:04d}.png")
    return root


def test_names_labels_and_features(tmp_path, encoder, photos):
    source = sources.FolderSource(str(photos / "temple"), "all")
    made = embed.embed(encoder, source, tmp_path / "f.npz")
    assert made["images"] == len(source) and made["images_per_second"] > 0
    with np.load(tmp_path / "f.npz") as file:
        assert file["features"].shape == (len(source), 64)
        assert file["features"].dtype == np.float32
        assert list(file["names"]) == [source[i].name for i in range(len(source))]
        np.testing.assert_array_equal(file["labels"], source.labels())
        assert list(file["classes"]) == list(source.classes) == ["0", "1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.npz"]
    again = embed.embed(encoder, source, tmp_path / "f.npz")
    assert again["images_per_second"] is None
    with pytest.raises(UsageError, match="is there already, of something else"):
        embed.embed(encoder, source, tmp_path / "f.npz", output="token")


def test_float_images_keep_their_values(tmp_path):
    weights = random_weights()
    given = Pixels(weights.pixels.size, 3, "float32", mean=(300.0,), std=(80.0,), crop=1.0)
    weights = dataclasses.replace(weights, pixels=given)
    export.export(weights, tmp_path / "model", format="npz")
    pixels = np.random.default_rng(0).normal(300, 80, (3, 32, 32, 3)).astype(np.float32)
    (tmp_path / "arrays").mkdir()
    for index, image in enumerate(pixels):
        np.save(tmp_path / "arrays" / f"{index}.npy", image)
    (tmp_path / "config.py").write_text(
        "from mae_jax.config import default_config\n"
        "def get_config():\n"
        "    config = default_config()\n"
        f"    config.data.folder, config.data.split = {str(tmp_path / 'arrays')!r}, 'all'\n"
        "    return config\n"
    )
    arguments = ["embed", str(tmp_path / "model"), f"--config={tmp_path / 'config.py'}"]
    assert cli.main(["mae-jax", *arguments, f"--out={tmp_path / 'f.npz'}"]) == 0
    with np.load(tmp_path / "f.npz") as file:
        expected = encoder_of(weights)(pixels)
        np.testing.assert_allclose(file["features"], expected, atol=1e-5)
    arguments += ["--config.data.eval_crop=0.5", f"--out={tmp_path / 'f.npz'}"]
    assert cli.main(["mae-jax", *arguments]) == 2  # that file is of something else


def test_parquet(tmp_path, encoder, photos):
    parquet = pytest.importorskip("pyarrow.parquet")
    source = sources.FolderSource(str(photos / "temple"), "all")
    embed.embed(encoder, source, tmp_path / "f.parquet")
    embed.embed(encoder, source, tmp_path / "f.npz")
    table = parquet.read_table(tmp_path / "f.parquet")
    with np.load(tmp_path / "f.npz") as file:
        np.testing.assert_array_equal(np.stack(table["features"].to_numpy()), file["features"])
    assert table["name"][0].as_py() == source[0].name
    assert table["class"][0].as_py() == source.classes[table["label"][0].as_py()]
    with pytest.raises(UsageError, match=r"ends in \.npz"):
        embed.embed(encoder, source, tmp_path / "p.parquet", output="patches")
    with pytest.raises(UsageError, match="must end in one of"):
        embed.embed(encoder, source, tmp_path / "p.csv")


def test_parquet_without_pyarrow_is_refused_at_once(tmp_path, encoder, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="needs pyarrow; pip install"):
        embed.embed(encoder, sources.open_images(photos / "temple"), tmp_path / "f.parquet")
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_killed_and_started_again(tmp_path, many):
    export.export(random_weights(), tmp_path / "model", format="npz")

    def start(out):
        command = ["embed", str(tmp_path / "model"), f"--images={many}", f"--out={out}"]
        return subprocess.Popen(
            [sys.executable, "-m", "mae_jax.cli", *command],
            env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    whole = start(tmp_path / "whole.npz")
    out, err = whole.communicate(timeout=300)
    assert whole.returncode == 0 and "images/s" in err + out, err
    killed = start(tmp_path / "again.npz")
    parts = tmp_path / "again.npz.parts"
    while killed.poll() is None and not list(parts.glob("*.npz")):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert list(parts.glob("*.npz")) and not (tmp_path / "again.npz").exists()
    again = start(tmp_path / "again.npz")
    assert again.wait(timeout=300) == 0
    assert (tmp_path / "whole.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


@pytest.fixture
def few(tmp_path):
    """Four images, of which one is broken."""
    rng, folder = np.random.default_rng(0), tmp_path / "few"
    folder.mkdir()
    for index in range(4):
        pixels = rng.integers(0, 256, (40, 36, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (folder / "2.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_broken_images_are_marked_and_more_than_allowed_are_too_many(
    tmp_path, encoder, few, suffix, capsys
):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"f{suffix}"
    made = embed.embed(encoder, sources.open_images(few), out)
    assert made["broken"] == 1 and made["images"] == 4
    assert "2.png" in capsys.readouterr().err
    rows = embedded.read(out)
    assert rows.broken.tolist() == [False, False, True, False]
    assert np.isnan(rows.features[2]).all() and np.isfinite(rows.features[[0, 1, 3]]).all()
    (few / "3.png").write_bytes(b"")
    assert embed.embed(encoder, sources.open_images(few), tmp_path / f"g{suffix}")["broken"] == 2
    with pytest.raises(BrokenRecord, match="2 of 4 records are broken"):
        embed.embed(encoder, sources.open_images(few), tmp_path / f"h{suffix}", broken_share=0.1)
    for name in ("0.png", "1.png"):
        (few / name).write_bytes(b"")
    out = tmp_path / f"i{suffix}"
    with pytest.raises(BrokenRecord, match="none of the 4 images can be read"):
        embed.embed(encoder, sources.open_images(few), out)
    assert not out.exists()


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_images_that_were_added_are_embedded_and_others_kept(
    tmp_path, encoder, few, suffix, monkeypatch
):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    out, looked_at = tmp_path / f"f{suffix}", []
    embed.embed(encoder, sources.open_images(few), out)
    before = embedded.read(out)
    shutil.copy(few / "0.png", few / "00.png")  # is sorted in between
    shutil.copy(few / "3.png", few / "1.png")  # under an old name other bytes
    shutil.copy(few / "0.png", few / "2.png")  # mended
    real = embed.views

    def watched(source, pixels, indices, size, **options):
        looked_at.extend(source.name(index) for index in indices)
        return real(source, pixels, indices, size, **options)

    monkeypatch.setattr(embed, "views", watched)
    embed.embed(encoder, sources.open_images(few), out)
    after = embedded.read(out)
    assert after.names == ["0.png", "00.png", "1.png", "2.png", "3.png"]
    assert looked_at == ["00.png", "1.png", "2.png"]
    np.testing.assert_array_equal(after.features[[0, 4]], before.features[[0, 3]])
    for index, same in ((1, 0), (2, 4), (3, 0)):
        np.testing.assert_allclose(after.features[index], after.features[same], atol=1e-5)
    assert not after.broken.any()
    looked_at.clear()
    embed.embed(encoder, sources.open_images(few), out)
    assert looked_at == []


def test_all_devices_take_part_and_change_nothing(encoder, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), np.uint8)
    devices = jax.local_devices()
    sharded = []
    real = Layout.put_batch

    def watched(self, batch, batch_size):
        placed = real(self, batch, batch_size)
        sharded.append(len(placed["image"].sharding.device_set))
        return placed

    monkeypatch.setattr(Layout, "put_batch", watched)
    many = encoder(images)
    monkeypatch.setattr(jax, "local_devices", lambda **options: devices[:1])
    np.testing.assert_allclose(encoder_of(encoder.weights)(images), many, atol=1e-5)
    assert sharded == [len(devices), 1] and len(devices) == 8

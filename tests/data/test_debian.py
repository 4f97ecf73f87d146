"""Data sets from files that Debian packages: here a small set in their place."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from mae_jax.data import debian
from mae_jax.data.tfds_sets import TfdsSource
from mae_jax.errors import UsageError


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A folder with the four files, of twelve images for each split, all alike."""
    from tensorflow_datasets.image_classification import mnist

    folder = tmp_path / "package"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 10
    package, _, files = debian._PACKAGES["fashion_mnist"]
    known = {}
    for name in files:
        values = images if "images" in name else labels
        header = struct.pack(f">{1 + values.ndim}i", 0x800 + values.ndim, *values.shape)
        data = gzip.compress(header + values.tobytes(), mtime=0)
        (folder / name).write_bytes(data)
        known[name] = (len(data), hashlib.sha256(data).hexdigest())
    monkeypatch.setitem(debian._PACKAGES, "fashion_mnist", (package, str(folder), known))
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 12)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 12)
    infos = dict(mnist.FashionMNIST.url_infos)
    yield folder, labels
    mnist.FashionMNIST.url_infos.update(infos)


def test_files_of_the_package_are_taken(packaged, tmp_path):
    source = TfdsSource("fashion_mnist", "train", str(tmp_path / "tfds"))
    assert len(source) == 12 and source.classes[9] == "Ankle boot"
    assert sorted(source.labels()) == sorted(packaged[1])


def test_a_damaged_file_is_refused(packaged, tmp_path):
    path = packaged[0] / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UsageError, match="fashion_mnist.*wrong checksum"):
        TfdsSource("fashion_mnist", "train", str(tmp_path / "tfds"))


def test_without_the_package_its_name_is_said(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    package, _, files = debian._PACKAGES["fashion_mnist"]
    absent = (package, str(tmp_path / "absent"), files)
    monkeypatch.setitem(debian._PACKAGES, "fashion_mnist", absent)

    def fail(self, **settings):
        assert not settings
        raise ConnectionError("no network")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(UsageError, match="no network; or apt install dataset-fashion-mnist"):
        TfdsSource("fashion_mnist", "train", str(tmp_path / "tfds"))


def test_other_sets_are_downloaded_as_ever():
    class Builder:
        name = "mnist"

    assert debian.settings(Builder()) == {} and debian.hint("mnist") == ""

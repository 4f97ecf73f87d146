"""Data sets by name, from a stand-in for the Hugging Face hub and from a cache."""

import io

import hub_stand_in
import numpy as np
import pytest
from PIL import Image

from mae_jax.config import default_config
from mae_jax.data import sources
from mae_jax.data.sources import FolderSource
from mae_jax.errors import UsageError

NAME = "hf:owner/photographs"


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    with hub_stand_in.running() as running:
        hub_stand_in.connect(monkeypatch, running, tmp_path / "cache")
        yield running


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def shard(count):
    import pyarrow as pa
    from pyarrow import parquet

    rows = [{"image": {"bytes": picture(i), "path": None}, "label": i % 2} for i in range(count)]
    data = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), data)
    return data.getvalue()


def test_parquet_of_the_hub_then_from_the_cache(stand_in, monkeypatch):
    pytest.importorskip("pyarrow")
    files = {
        "README.md": b"card",
        "data/train-00000-of-00001.parquet": shard(6),
        "data/test-00000-of-00001.parquet": shard(2),
        "model.bin": b"of no use",
    }
    commit = stand_in.add("datasets/owner/photographs", files)
    data = default_config().data
    data.folder = NAME
    train = sources.open_source(data, "train")
    assert len(train) == 6 and train.classes == ["0", "1"]
    assert [train[i].data for i in (5, 0)] == [picture(5), picture(0)]
    assert sorted(stand_in.fetched()) == [
        "test-00000-of-00001.parquet", "train-00000-of-00001.parquet",
    ]  # fmt: skip
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in (NAME, f"{NAME}@{commit}"):
        assert FolderSource(name, "train").fingerprint() == train.fingerprint()
    assert len(sources.open_images(NAME)) == 8


def test_a_folder_of_images_of_the_hub(stand_in):
    names = [f"train/{kind}/{i}.png" for kind in ("cat", "dog") for i in range(2)]
    stand_in.add("datasets/owner/photographs", {n: picture(i) for i, n in enumerate(names)})
    source = FolderSource(NAME, "train")
    assert source.classes == ["cat", "dog"] and source[3].data == picture(3)


@pytest.mark.parametrize(
    ("name", "access", "match"),
    [
        ("hf:owner/other", {}, "data.folder 'hf:owner/other' is not at http.*, or is private"),
        (NAME, {"gated": True}, "is gated: ask for access at http.*/datasets/owner/photographs"),
        (f"{NAME}@v9", {}, "has no revision 'v9'"),
        ("hf:owner", {}, "must be OWNER/NAME"),
    ],
)
def test_names_that_are_wrong(stand_in, name, access, match):
    stand_in.add("datasets/owner/photographs", {"a.png": picture(0)}, **access)
    with pytest.raises(UsageError, match=match):
        FolderSource(name, "all")


def test_a_set_without_images_and_no_network(stand_in, monkeypatch):
    stand_in.add("datasets/owner/photographs", {"README.md": b"card"})
    with pytest.raises(UsageError, match="has no images"):
        FolderSource(NAME, "all")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="data.folder 'hf:owner/another': HF_HUB_OFFLINE is set"):
        FolderSource("hf:owner/another", "all")

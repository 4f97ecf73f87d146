"""Tar shards: what they say, what they lack, and what is wrong with them."""

import os
import tarfile

import pytest
from lying import names, picture, tar

from mae_jax.data.formats import tars
from mae_jax.data.sources import FolderSource
from mae_jax.errors import BrokenRecord, UsageError


def test_shards_are_indexed_once_and_again_when_they_change(tmp_path, cache, monkeypatch):
    path = tar(tmp_path / "s" / "a.tar", [(f"{i}.png", picture(i)) for i in range(5)])
    first = FolderSource(str(tmp_path / "s"), "all")
    assert len(list(cache.iterdir())) == 1
    with monkeypatch.context() as patched:
        patched.setattr(tars.TarFiles, "_headers", None)  # is not called again
        again = FolderSource(str(path), "all")
    assert again.fingerprint() == first.fingerprint()
    assert [again[i].data for i in range(5)] == [picture(i) for i in range(5)]
    tar(path, [(f"{i}.png", picture(i)) for i in (4, 2, 0)])
    changed = FolderSource(str(path), "all")
    assert names(changed) == ["4.png", "2.png", "0.png"]
    assert changed.fingerprint() != first.fingerprint()
    for kept in cache.iterdir():
        kept.write_text("{")
    assert names(FolderSource(str(path), "all")) == names(changed)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")  # where nothing can be kept
    assert names(FolderSource(str(path), "all")) == names(changed)


def test_keys_labels_and_equal_names_in_shards(tmp_path):
    for shard in ("train-0", "val-0"):
        members = [("0001.jpg", picture(1, kind="JPEG")), ("0001.cls", b"7"), ("0001.json", b"{}")]
        tar(tmp_path / "s" / f"{shard}.tar", [*members, ("._0001.jpg", b"a Mac's")])
    train = FolderSource(str(tmp_path / "s"), "train")
    assert names(train) == ["train-0.tar/0001.jpg"] and train.classes == ["7"]
    assert names(FolderSource(str(tmp_path / "s"), "val")) == ["val-0.tar/0001.jpg"]
    tar(tmp_path / "t.tar", [("a.png", picture()), ("a.png", picture(1))])
    with pytest.raises(UsageError, match="has 't.tar/a.png' twice"):
        FolderSource(str(tmp_path / "t.tar"), "all")
    tar(tmp_path / "u.tar", [("a.txt", b"text")])
    with pytest.raises(UsageError, match="has no image in 1 tar files"):
        FolderSource(str(tmp_path / "u.tar"), "all")


@pytest.mark.parametrize("cut", [100, 700, 3000])
def test_a_shard_cut_short_is_refused_or_its_images_broken(tmp_path, cut):
    path = tar(tmp_path / "a.tar", [(f"{i}.png", picture(i)) for i in range(5)])
    opened = FolderSource(str(path), "all")
    with path.open("r+b") as file:
        file.truncate(cut)
    with pytest.raises(UsageError, match="no whole, uncompressed tar file.*copy or pack it again"):
        FolderSource(str(path), "all")
    with pytest.raises(BrokenRecord, match=r"4\.png: its shard .*a\.tar ends too early"):
        opened[4]


def test_shards_at_a_url_are_read_by_ranges(tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    path = tar(tmp_path / "s" / "a.tar", [(f"c/{i}.png", picture(i)) for i in range(5)])
    memory, read = fsspec.filesystem("memory"), []
    memory.pipe("/s/a.tar", path.read_bytes())
    whole = type(memory).cat_file
    monkeypatch.setattr(
        type(memory),
        "cat_file",
        lambda self, path, start=None, end=None: (
            read.append(end - start) or whole(self, path, start=start, end=end)
        ),
    )
    for url in ("memory://s/a.tar", "memory://s"):
        source = FolderSource(url, "all")
        assert [source[i].data for i in range(5)] == [picture(i) for i in range(5)]
        assert source.classes == ["c"]
    assert read == 2 * [len(picture(i)) for i in range(5)]
    with pytest.raises(UsageError, match=r"nothing\.tar' cannot be read"):
        FolderSource("memory://s/nothing.tar", "all")
    assert FolderSource(f"file://{path.parent}", "all").classes == ["c"]


@pytest.mark.parametrize("splits", [True, False])
def test_class_folders_in_shards_are_labels_however_shards_and_members_are_called(tmp_path, splits):
    for shard in ("000", "001"):
        for split in ("train/", "val/") if splits else ("",):
            members = [(f"{kind}/0.png", picture()) for kind in ("cat", "dog")]
            tar(tmp_path / "equal" / f"{split}{shard}.tar", members)
            own = f"{split}{shard}".replace("/", "-")
            other = [(f"{kind}/{own}.png", picture()) for kind in ("cat", "dog")]
            tar(tmp_path / "own" / f"{split}{shard}.tar", other)
    for place in ("equal", "own"):
        for split in ("train", "val", "all") if splits else ("all",):
            source = FolderSource(str(tmp_path / place), split)
            assert source.classes == ["cat", "dog"], (place, split)
            assert source.labels().tolist() == [0, 1] * (len(source) // 2)


@pytest.mark.parametrize("place", ["header", "within", "overwritten", "joined"])
def test_no_damage_to_a_shard_shortens_it(tmp_path, place):
    path = tar(tmp_path / "a.tar", [(f"{i}.png", picture(i)) for i in range(5)])
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as opened:
        at = opened.getmembers()[3].offset
    if place == "joined":
        path.write_bytes(data + tar(tmp_path / "b.tar", [("x.png", picture())]).read_bytes())
    elif place == "overwritten":
        data[at + 100 : at + 104] = b"zzzz"
        path.write_bytes(data)
    else:
        path.write_bytes(data[: at + (200 if place == "within" else 0)])
    with pytest.raises(UsageError, match="no whole, uncompressed tar file"):
        FolderSource(str(path), "all")


def test_a_key_with_two_labels_is_refused(tmp_path):
    members = [("s.0.png", picture()), ("s.0.cls", b"0"), ("s.1.png", picture()), ("s.1.cls", b"1")]
    tar(tmp_path / "a.tar", members)
    with pytest.raises(UsageError, match="the key 's' has two labels"):
        FolderSource(str(tmp_path / "a.tar"), "all")


def test_more_shards_than_files_may_be_open(tmp_path):
    resource = pytest.importorskip("resource")
    for number in range(120):
        tar(tmp_path / "s" / f"{number:03d}.TAR", [(f"{number}.png", picture())])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 50, hard))
    try:
        source = FolderSource(str(tmp_path / "s"), "all")
        assert all(source[i].data == picture() for i in range(120))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

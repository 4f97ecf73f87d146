import shutil

import numpy as np
import pytest
from PIL import Image

from mae_jax.data import sources
from mae_jax.errors import UsageError


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path)


def test_digits_have_images_and_labels(tfds_dir):
    train = sources.TfdsSource("handwritten_digits", "train", tfds_dir)
    test = sources.TfdsSource("handwritten_digits", "test", tfds_dir)
    assert (len(train), len(test)) == (1437, 360)
    assert list(train.classes) == [str(n) for n in range(10)]
    assert train[7].data.startswith(b"\x89PNG")
    assert train[7].label == train.labels()[7]
    assert np.bincount(train.labels()).min() > 120


def test_digits_are_scikit_learns(tfds_dir):
    from sklearn.datasets import load_digits

    from mae_jax.data import images

    everything = []
    for split in ("train", "test"):
        source = sources.TfdsSource("handwritten_digits", split, tfds_dir)
        for i in range(len(source)):
            pixels = images.decode(source[i].data, images.Form(1), "")
            everything.append((source[i].label, pixels.tobytes()))
    digits = load_digits()
    ours = sorted(everything)
    theirs = sorted(
        (int(label), np.round(image * 255 / 16).astype(np.uint8).tobytes())
        for image, label in zip(digits.images, digits.target, strict=True)
    )
    assert ours == theirs


def test_tfds_split_expressions(tfds_dir):
    part = sources.TfdsSource("handwritten_digits", "train[:80%]", tfds_dir)
    rest = sources.TfdsSource("handwritten_digits", "train[80%:]", tfds_dir)
    assert len(part) + len(rest) == 1437
    assert part.fingerprint() != rest.fingerprint()


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("handwriten_digits", "train", "did you mean handwritten_digits"),
        ("handwritten_digits", "val", "split 'val' is unknown; known are test, train"),
        ("handwritten_digits", "train[:x]", r"split 'train\[:x\]' is unknown"),
    ],
)
def test_tfds_names_that_are_wrong(tfds_dir, name, split, message):
    with pytest.raises(UsageError, match=message):
        sources.TfdsSource(name, split, tfds_dir)


def test_folder_is_found_at_any_depth(photos):
    source = sources.FolderSource(str(photos), "all")
    assert len(source) == 200
    assert not source.classes and source[0].label == sources.NO_LABEL
    assert {source[i].name.rsplit(".")[-1] for i in range(200)} == {
        "jpg", "png", "jpeg", "webp", "bmp",
    }  # fmt: skip


def test_sub_folders_are_labels(tmp_path):
    write(tmp_path, "cat/1.png", "cat/deep/2.png", "dog/3.png")
    source = sources.FolderSource(str(tmp_path), "all")
    assert source.classes == ["cat", "dog"]
    np.testing.assert_array_equal(source.labels(), [0, 0, 1])
    assert source[2].label == 1


def test_sub_folders_are_splits(tmp_path):
    write(tmp_path, "train/cat/1.png", "train/dog/2.png", "val/dog/3.png", "test/4.png")
    train = sources.FolderSource(str(tmp_path), "train")
    val = sources.FolderSource(str(tmp_path), "val", train.classes)
    assert train.classes == val.classes == ["cat", "dog"]
    np.testing.assert_array_equal(val.labels(), [1])
    assert not sources.FolderSource(str(tmp_path), "test").classes
    assert len(sources.FolderSource(str(tmp_path), "train+val")) == 3


def test_shares_of_a_folder_are_disjoint_and_mixed(tmp_path):
    write(tmp_path, *[f"{c}/{i}.png" for c in "ab" for i in range(50)])
    part = sources.FolderSource(str(tmp_path), "all[:80%]")
    rest = sources.FolderSource(str(tmp_path), "all[80%:]")
    names = [s[i].name for s in (part, rest) for i in range(len(s))]
    assert len(part) == 80 and sorted(names) == sorted(set(names)) and len(names) == 100
    assert set(rest.labels()) == {0, 1}


@pytest.mark.parametrize(
    ("split", "message"),
    [("val", "split 'val' is unknown; known are a, all"), ("all[:0]", "is empty")],
)
def test_folder_splits_that_are_wrong(tmp_path, split, message):
    write(tmp_path, "a/1.png")
    with pytest.raises(UsageError, match=message):
        sources.FolderSource(str(tmp_path), split)


def test_folders_that_are_wrong(tmp_path):
    with pytest.raises(UsageError, match="is neither a folder nor a file"):
        sources.FolderSource(str(tmp_path / "missing"), "all")
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(UsageError, match=r"has no images, but 1 of \.txt; known are .* in \.jpg"):
        sources.FolderSource(str(tmp_path), "all")
    for name in "12":
        (tmp_path / "film" / name).mkdir(parents=True)
        (tmp_path / "film" / name / "a.MP4").touch()
    with pytest.raises(UsageError, match=r"but 2 of \.mp4 \(ffmpeg .* makes images\)"):
        sources.FolderSource(str(tmp_path), "all")
    write(tmp_path, "train/cat/1.png", "val/cow/1.png")
    with pytest.raises(UsageError, match="has a class 'cow'"):
        sources.FolderSource(str(tmp_path), "val", ["cat"])


def test_fingerprint_follows_the_files(tmp_path):
    write(tmp_path / "one", "a.png", "b.png")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    before = sources.FolderSource(str(tmp_path / "one"), "all").fingerprint()
    assert before == sources.FolderSource(str(tmp_path / "two"), "all").fingerprint()
    write(tmp_path / "two", "c.png")
    assert before != sources.FolderSource(str(tmp_path / "two"), "all").fingerprint()

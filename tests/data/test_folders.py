"""Folders as people have them: how their sub-folders are read, and what lies in them oddly."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mae_jax import cli
from mae_jax.data import files, prepare, sources
from mae_jax.data.describe import describe, overlap
from mae_jax.data.names import Names
from mae_jax.data.sources import FolderSource
from mae_jax.errors import BrokenRecord, UsageError


def write(folder, *names):
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path, "PNG")


def names(source):
    return [source.name(i) for i in range(len(source))]


@pytest.mark.parametrize("top", [("train", "val"), ("Train", "test2017"), ("training",)])
def test_folders_called_as_splits_are_no_classes(tmp_path, top):
    write(
        tmp_path, *[f"{split}/{c}/{i}.png" for split in top for c in ("cat", "dog") for i in "12"]
    )
    source = FolderSource(str(tmp_path), "all[:75%]")
    assert source.classes == ["cat", "dog"]
    of = [source.classes[label] for label in source.labels()]
    assert of == [name.split("/")[1] for name in names(source)]


def test_a_class_may_be_called_as_a_split_is(tmp_path):
    write(tmp_path, "train/1.png", "bus/1.png", "plane/1.png")
    assert FolderSource(str(tmp_path), "all").classes == ["bus", "plane", "train"]


def test_files_without_a_class_folder_are_named(tmp_path):
    write(
        tmp_path, "cat/1.png", "dog/1.png", "dog/2.png", "x.png", "train/x.png", "train/cat/1.png"
    )
    stray = FolderSource(str(tmp_path), "all")
    assert not stray.classes and (stray.labels() == sources.NO_LABEL).all()
    assert stray.no_labels() == (
        "needs labelled data, and this has none: x.png of 6 images lies in no class folder; let "
        "data.folder hold class folders alone, or name classes in a table, data.labels"
    )
    assert FolderSource(str(tmp_path), "train").unlabelled == (
        "train/x.png of 2 images lies in no class folder"
    )
    assert FolderSource(str(tmp_path), "dog").unlabelled == "no image lies in a class folder of dog"
    write(tmp_path, *[f"y{i}.png" for i in range(5)])
    assert FolderSource(str(tmp_path), "all").unlabelled == (
        "x.png, y0.png, y1.png and 3 more of 11 images lie in no class folder"
    )
    assert describe(FolderSource(str(tmp_path), "train")) == (
        "2 images, without labels (train/x.png of 2 images lies in no class folder)"
    )


def test_a_class_that_is_given_as_a_split_is_said_to_be_one(tmp_path):
    write(tmp_path, "cat/1.png", "dog/1.png")
    said = FolderSource(str(tmp_path), "cat").no_labels()
    assert said.startswith(
        "needs labelled data, and this has none: no image lies in a class folder of cat; if these "
        "are classes, --config.data.split='all[:80%]' and"
    )
    write(tmp_path, "train/1.png", "val/1.png")
    assert "if these are classes" not in FolderSource(str(tmp_path), "train").no_labels()


@pytest.mark.parametrize(
    ("train", "held_out", "said"),
    [
        ("all[:80%]", "all[80%:]", None),
        ("all", "all", "all held-out images are trained on, too"),
        ("all[:80%]", "all[60%:]", "2 of 4 held-out images are trained on, too"),
        ("all[:80%]", "cat", " held-out images are trained on, too"),
        ("cat", "dog", None),
    ],
)
def test_held_out_images_that_are_trained_on_are_counted(tmp_path, train, held_out, said):
    write(tmp_path, *[f"{c}/{i}.png" for c in ("cat", "dog") for i in range(5)])
    found = overlap(FolderSource(str(tmp_path), train), FolderSource(str(tmp_path), held_out))
    assert (found is None) if said is None else said in found


def test_records_of_other_sets_under_the_same_names_are_others(tmp_path):
    write(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    halves = [
        [FolderSource(str(tmp_path / name), part) for part in ("all[:50%]", "all[50%:]")]
        for name in "ab"
    ]
    (one, rest), (same_name, other_name) = halves
    train = sources.Mixture([one, other_name], [1, 1])
    assert overlap(train, sources.Mixture([rest, same_name], [1, 1])) is None
    assert overlap(train, sources.Mixture([rest, other_name], [1, 1])).startswith("1 of 2 ")


def test_a_run_that_needs_labels_says_which_files_have_none(tmp_path):
    from mae_jax.config import default_config
    from mae_jax.train.task import prepare as make

    write(tmp_path, "cat/1.png", "x.png")
    config = default_config()
    config.data.folder, config.data.split, config.data.batch_size = str(tmp_path), "all", 1
    config.train.objective, config.train.steps = "classify", 1
    with pytest.raises(UsageError, match=r"'classify' needs labelled data.*: x\.png of 2 images"):
        make(config, 1)


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("val 2", "'val 2'"),
        ("train.v2", "'train.v2'"),
        ("Été", "Été"),
        ("it's", "'it''s'"),
        ("a+b[:3]", "'a+b[:3]'"),
        ("E\u0301te\u0301", "Été"),  # as some file systems write it
    ],
)
def test_any_sub_folder_can_be_asked_for(tmp_path, folder, split):
    write(tmp_path, *[f"{folder}/{i}.png" for i in range(4)], "other/1.png")
    assert names(FolderSource(str(tmp_path), split)) == [f"{folder}/{i}.png" for i in range(4)]
    halves = [FolderSource(str(tmp_path), f"{split}{half}") for half in ("[:50%]", "[50%:]")]
    assert [len(half) for half in halves] == [2, 2]
    assert len(FolderSource(str(tmp_path), f"other+{split}")) == 5


def test_the_message_shows_the_quotes(tmp_path):
    write(tmp_path, "val 2/1.png", "val/2.png")
    with pytest.raises(UsageError, match=r"'val 2' is unknown; known are val, 'val 2', all, and"):
        FolderSource(str(tmp_path), "val 2")
    write(tmp_path, *[f"c{i:03d}/1.png" for i in range(100)])
    with pytest.raises(UsageError, match="82 more, all, and parts"):
        FolderSource(str(tmp_path), "part0")


def test_a_sub_folder_called_all_is_not_the_split_all(tmp_path):
    write(tmp_path, "all/1.png", "cat/2.png", "cat/3.png")
    assert len(FolderSource(str(tmp_path), "all")) == 3
    assert names(FolderSource(str(tmp_path), "'all'")) == ["all/1.png"]
    assert len(FolderSource(str(tmp_path), "all[:1]+cat")) == 3


def test_linked_folders_end(tmp_path):
    write(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / "cat/again").symlink_to(tmp_path)
    (tmp_path / "cat/here").symlink_to(".")
    (tmp_path / "dog/cats").symlink_to("../cat")
    (tmp_path / "cat/dogs").symlink_to("../dog")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere.png").symlink_to("gone.png")
    assert names(FolderSource(str(tmp_path), "all")) == [
        "cat/1.png", "cat/dogs/2.png", "dog/2.png", "dog/cats/1.png",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    write(tmp_path, "cat/1.png", "dog/2.png")
    scan = os.scandir

    def closed(path):
        if str(path).rstrip("/").endswith("dog"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(files.os, "scandir", closed)
    with pytest.raises(UsageError, match=r"^data\.folder '.*/dog/' cannot be read: Permission den"):
        FolderSource(str(tmp_path), "all")


def test_the_home_folder_is_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "photos/cat/1.png")
    assert len(FolderSource("~/photos", "all")) == 1
    assert len(sources.open_images("~/photos")) == len(sources.open_images("~/photos/cat/1.png"))
    result = prepare.prepare("~/photos", "~/set", workers=1)
    assert result["records"] == 1 and (tmp_path / "set/dataset.json").is_file()
    assert len(FolderSource("~/set", "all")) == 1
    with pytest.raises(UsageError, match="lies in the folder"):
        prepare.prepare("~/photos", str(tmp_path / "photos/set"), workers=1)


ODD = [
    "UPPER.PNG", "new\nline.png", os.fsdecode(b"latin-\xe9.png"), "\u202eflip.png", " .png",
    "w" * 251 + ".png", "tab\t.JpEg", "-.gif", "'.png",
]  # fmt: skip


def test_odd_names_are_read_and_said_on_one_line(tmp_path, capsys):
    write(tmp_path, *ODD, ".hidden.png", ".git/1.png", "sub/.thumbs/2.png", "dir.png/in.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "readme.txt").write_text("x")
    source = FolderSource(str(tmp_path), "all")
    assert sorted(names(source)) == sorted([*ODD, "dir.png/in.png", "empty.png"])
    assert len(source[names(source).index("new\nline.png")].data)
    for name in ("bad\nline.png", os.fsdecode(b"bad-\xe9.png")):
        (tmp_path / name).write_bytes(b"bad")
    assert cli.main(["mae-jax", "data", "check", str(tmp_path), "--workers=1"]) == 3
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("broken: ")]
    assert len(said) == 3 and any(line.startswith("broken: bad\\nline.png: ") for line in said)
    assert any("bad-\\udce9.png" in line for line in said)
    assert cli.main(["mae-jax", "data", "stats", str(tmp_path), "--workers=1"]) == 0
    prepare.prepare(str(tmp_path), str(tmp_path.parent / "set"), workers=1)
    made = FolderSource(str(tmp_path.parent / "set"), "all")
    assert sorted(names(made)) == sorted([*ODD, "dir.png/in.png"])


@pytest.mark.parametrize("action", ["check", "stats", "prepare"])
@pytest.mark.parametrize("folder", ["x" * 300, "new\nline", "nul\0", "", "file.png", "empty"])
def test_what_is_no_folder_of_images_is_one_sentence(tmp_path, capsys, monkeypatch, action, folder):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "file.png")
    (tmp_path / "empty").mkdir()
    arguments = ["mae-jax", "data", action, folder] + (["--out=set"] if action == "prepare" else [])
    assert cli.main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_statistics_of_images_of_another_kind_say_which_kind(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.full((4, 4), -1000, np.float32))
    stats = ["mae-jax", "data", "stats", str(tmp_path)]
    assert cli.main(stats) == 3
    assert "for instance a.npy: array of float32 (4, 4), expected 3 ch" in capsys.readouterr().err
    stats.append("--config.model.channels=1")
    assert cli.main(stats) == 3
    assert "data.pixels='float32' keeps them" in capsys.readouterr().err
    assert cli.main([*stats, "--config.data.pixels=float32"]) == 0
    assert "(-1000.0,)" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_is_a_broken_record(tmp_path, monkeypatch):
    write(tmp_path, "1.png")
    source = sources.open_images(tmp_path / "1.png")
    (tmp_path / "1.png").unlink()
    with pytest.raises(BrokenRecord, match=r"^1\.png: No such file"):
        source[0]


def test_names_are_not_padded():
    given = ["a", "", "Été/1.png", os.fsdecode(b"\xff\xfe.png"), "x" * 60_000] + ["b.png"] * 2000
    held = Names(given)
    assert [held[i] for i in range(len(held))] == given
    packed = pickle.dumps(held)
    assert len(packed) < 100_000  # the longest alone would make 120 MB of them
    assert pickle.loads(packed)[np.int64(4)] == given[4]
    with pytest.raises(IndexError):
        held[len(given)]


def test_what_shows_something_and_is_not_read_is_said(tmp_path, capsys):
    write(tmp_path, "a/0.png", "a/1.png", "b/0.png")
    for name in ("a/IMG_1.HEIC", "b/IMG_2.heic", "b/VID.mp4", "notes.txt", ".hidden.heic"):
        (tmp_path / name).write_bytes(b"x")
    source = FolderSource(str(tmp_path), "all")
    assert len(source) == 3
    said = "3 images (beside them lie 2 of .heic, 1 of .mp4, which are not read) of 2 classes"
    assert describe(source).startswith(said)
    assert cli.main(["mae-jax", "data", "check", str(tmp_path)]) == 0
    assert "2 of .heic, 1 of .mp4" in capsys.readouterr().out
    with pytest.raises(UsageError, match="is empty: of its 3 images that is none; take a larger"):
        FolderSource(str(tmp_path), "all[99%:]")

"""Mistakes of somebody's first hour: each ends with a sentence that says what to type."""

import copy

import pytest
from PIL import Image

from mae_jax import cli
from mae_jax.errors import UsageError
from mae_jax.train import loop
from mae_jax.train import task as tasks
from mae_jax.weights import start


@pytest.fixture
def classes(tmp_path):
    """A folder with two class folders at its top."""
    for kind, colour in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (9 + i, 9), colour).save(tmp_path / "photos" / kind / f"{i}.png")
    return tmp_path / "photos"


def said(capsys, *arguments):
    """What a command that must be wrong says."""
    assert cli.main(["mae-jax", *map(str, arguments)]) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("arguments", "message"), [
    (["trian"], "; did you mean pretrain?"),
    (["pretrain", "--epochs=3"], "'epochs'; did you mean --config.train.epochs?"),
    (["pretrain", "--draws=3"], "'draws'; it is of finetune"),
    (["pretrain", "--config=configs/folder.py", "--workdir=w"],
     "no images are named; say where they lie, --config.data.folder=PHOTOS, or"),
    (["pretrain", "--config=configs/folder.py", "--workdir=w", "--config.model.size=giant"],
     "config key model.size is 'giant'; it must be one of tiny, small, base"),
    (["pretrain", "--config=configs/folder.py", "--workdir=w", "--config.model.image_size=1,2,3"],
     "it must be a tuple of one side for squares, or of height and width"),
])  # fmt: skip
def test_commands(capsys, arguments, message):
    assert message in said(capsys, *arguments)


def test_classes_in_the_place_of_splits(capsys, classes, tmp_path):
    found = said(
        capsys, "pretrain", "--config=configs/folder.py", f"--config.data.folder={classes}",
        "--config.data.split=train", f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert "known are cat, dog, all" in found and "--config.data.split='all[:80%]'" in found


@pytest.fixture
def small(new_digits_config, classes):
    """A classifier's config on those photographs."""
    config = copy.deepcopy(new_digits_config())
    config.model.channels, config.data.name, config.data.dir = 3, None, None
    config.data.folder, config.data.split, config.data.eval_split = str(classes), "all", None
    config.data.batch_size, config.train.steps = 8, 1
    config.train.objective = "classify"
    return config


def test_one_class_is_none(small, classes, tmp_path):
    for path in (classes / "dog").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="one class, 'cat', and a classifier needs two; class fol"):
        loop.run(small, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_encoder_s_dimensions_are_its_own(small, tmp_path, capsys):
    before = copy.deepcopy(small)
    before.train.objective = "reconstruct"
    loop.run(before, tmp_path / "run", quiet=True)
    small.init_from = str(tmp_path / "run")
    start.adopt(small, tmp_path / "other")  # the same, said again
    assert "and not" not in capsys.readouterr().err
    for name, value in (("patch_size", (4,)), ("width", 32), ("depth", 1), ("heads", 4)):
        other = copy.deepcopy(small)
        other.model[name] = value
        start.adopt(other, tmp_path / "other")
        assert other.model[name] == small.model[name]
        assert f"model.{name} is " in capsys.readouterr().err
    # What has other shapes can not be let change, and what has not can.
    before.model.depth, before.train.base_lr = 1, 0.5
    with pytest.raises(UsageError, match="other shapes. Different are: model.depth: 2 -> 1$"):
        loop.run(before, tmp_path / "run")
    before.model.depth = 2
    with pytest.raises(UsageError, match="--allow_change=train.base_lr, which lets it change"):
        loop.run(before, tmp_path / "run")


def test_what_a_run_starts_from_and_is_measured_on_is_told(small, tmp_path, capsys):
    small.data.eval_split = "all"
    loop.run(small, tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert "starts from random parameters, as init_from is not set" in lines
    assert any(line.startswith("all held-out images are trained on, too,") for line in lines)


def test_photographs_that_are_enlarged_are_said_to_be(small, classes):
    (classes / "cat" / "0.png").write_bytes(b"no image")  # is left for the run to count
    small.model.image_size = (24, 24)
    said = tasks.prepare(small, 1).enlarged()
    assert said.startswith(
        "images of about 9 x 10 pixels are enlarged to 24 x 24; smaller model.im"
    )
    small.model.image_size = (16, 16)
    assert tasks.prepare(small, 1).enlarged() is None


def test_a_folder_of_several_runs_is_said_to_be_one(capsys, tmp_path):
    for name in ("pretrained-0", "scratch-0"):
        (tmp_path / "runs" / name / "checkpoints").mkdir(parents=True)
    found = said(capsys, "predict", tmp_path / "runs", f"--images={tmp_path}", "--out=x.csv")
    assert "it holds several runs, pretrained-0, scratch-0; name one of them" in found


def test_a_variant_that_there_is_none_of(capsys):
    found = said(capsys, "pretrain", "--config=configs/folder.py:tiny", "--workdir=w")
    assert found.endswith("has no variant 'tiny'; it has photos, small")


def test_a_warm_up_that_is_most_of_the_run_is_told(small, capsys, tmp_path):
    small.train.objective, small.data.eval_split, small.train.steps = "reconstruct", "all", 4
    small.train.warmup_steps = 3
    loop.run(small, tmp_path / "long")
    told = capsys.readouterr().err
    assert "; the learning rate rises for the first 3, 75% of them: the warm-up is that" in told
    assert "would be right for 50%" in told  # beside kNN accuracy
    small.train.warmup_steps = 1
    loop.run(small, tmp_path / "short")
    assert "; the learning rate rises for the first 1\n" in capsys.readouterr().err


def test_classes_of_images_that_cannot_be_read(small, tmp_path, classes, capsys):
    loop.run(small, tmp_path / "classes")
    new, out = tmp_path / "new", tmp_path / "classes.csv"
    new.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (new / name).write_bytes(b"x")
    arguments = ["mae-jax", "predict", f"{tmp_path}/classes", f"--images={new}", f"--out={out}"]
    assert cli.main(arguments) == 3 and not out.exists()
    assert "none of the 3 images can be read" in capsys.readouterr().err
    Image.new("RGB", (9, 9), "red").save(new / "b.png")
    assert cli.main(arguments) == 0
    assert [row.split(",")[0] for row in out.read_text().splitlines()] == [
        "name", "a.png", "b.png", "c.png",
    ]  # fmt: skip

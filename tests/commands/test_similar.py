"""`mae-jax similar`, and `data check --leaks`, on a few real images and copies of them."""

import csv
import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
from made import random_weights
from PIL import Image, ImageOps

import mae_jax
from mae_jax import cli
from mae_jax.pixels import Pixels
from mae_jax.weights import export


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a small model of 32 x 32 RGB images."""
    folder = tmp_path_factory.mktemp("weights") / "model"
    export.export(random_weights(), folder, format="safetensors")
    return folder


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """Twenty pieces of a photograph in two classes, none of which overlap; PNG."""
    from sklearn.datasets import load_sample_images

    root = tmp_path_factory.mktemp("pieces")
    whole = Image.fromarray(load_sample_images().images[0])
    for index in range(20):
        left, top = (index % 6) * 100, (index // 6) * 100
        place = root / "train" / "ab"[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        whole.crop((left, top, left + 96, top + 96)).save(place / f"{index:02d}.png")
    return root


@pytest.fixture
def photographs(pieces, tmp_path):
    """The pieces, and a folder of copies: one of each kind, one under another label."""
    shutil.copytree(pieces, tmp_path / "set")
    test = tmp_path / "set" / "test" / "b"
    test.mkdir(parents=True)
    one = {n: Image.open(next(pieces.rglob(f"{n:02d}.png"))) for n in (1, 3, 5, 7, 8, 9)}
    one[1].save(test / "jpeg.jpg", quality=60)
    one[3].crop((4, 2, 90, 88)).save(test / "crop.png")
    ImageOps.mirror(one[5]).save(test / "mirror.png")
    one[7].point(lambda v: int(v * 0.8)).save(test / "dark.png")
    one[8].save(test / "other_label.webp", lossless=True)
    shutil.copy(one[9].filename, test / "bytes.png")
    return tmp_path / "set"


PLANTED = {
    "a/08.png": ("other_label.webp", "pixels"), "b/01.png": ("jpeg.jpg", "pixels"),
    "b/03.png": ("crop.png", "cropped"), "b/05.png": ("mirror.png", "mirrored"),
    "b/07.png": ("dark.png", "pixels"), "b/09.png": ("bytes.png", "bytes"),
}  # fmt: skip


def call(capsys, *arguments):
    code = cli.main(["mae-jax", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_leaks_between_two_folders(capsys, tmp_path, model, photographs):
    out = tmp_path / "out"
    command = ["similar", model, f"--images={photographs / 'train'}", f"--out={out}", "--json"]
    command.append(f"--held_out={photographs / 'test'}")
    code, text, err = call(capsys, *command)
    assert code == 0, err
    assert "memory: 26 x 64 features" in err and "recall, of 4 planted copies of each kind" in err
    result = json.loads(text)
    assert (result["pairs"], result["leaks"], result["groups"]) == (6, 6, 6)
    assert result["of_two_labels"] == 1 and result["search"] == "exact"
    rows = rows_of(result["table"])
    found = {row["a"].removeprefix("images/"): row for row in rows}
    assert {a: (row["b"].split("/")[-1], row["by"]) for a, row in found.items()} == PLANTED
    assert all(row["kind"] == "leak" and row["split_b"] == "held out" for row in rows)
    assert [found["a/08.png"][name] for name in ("class_a", "class_b")] == ["a", "b"]
    assert Image.open(result["sheet"]).width > 500
    assert json.loads((out / "similar.json").read_text()) == result
    # The same again computes no features; an image more, those of that image.
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("features*")}
    assert len(before) == 6
    code, text, err = call(capsys, *command)
    assert code == 0 and json.loads(text) == result
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("features*")} == before
    shutil.copy(photographs / "train/a/00.png", photographs / "test/b/more.png")
    code, text, err = call(capsys, *command)
    assert json.loads(text)["leaks"] == 7 and "26 of 27 images are in it already" in err


def test_a_config_names_the_splits(tmp_path, model, photographs):
    overrides = {"data.folder": str(photographs), "data.split": "train", "data.eval_split": "test"}
    found = mae_jax.similar(
        model, config="configs/folder.py", overrides=overrides, out=tmp_path / "o", also="mirrored"
    )
    rows = rows_of(found.table)
    assert {row["split_b"] for row in rows} == {"test"} and "cropped" not in {
        row["by"] for row in rows
    }
    # Without held-out images all are one set; the second call in a process.
    overrides |= {"data.split": "all", "data.eval_split": None}
    found = mae_jax.similar(
        model, config="configs/folder.py", overrides=overrides, out=tmp_path / "o2", also="none"
    )
    assert {row["kind"] for row in rows_of(found.table)} == {"duplicate"} and "leaks" not in found


def test_neighbours_of_a_query(capsys, tmp_path, model, photographs):
    command = ["similar", model, f"--images={photographs / 'train'}", f"--out={tmp_path / 'out'}"]
    for query in ("test", "test/b/crop.png"):
        code, text, err = call(capsys, *command, f"--query={photographs / query}", "--k=3",
                               "--json")  # fmt: skip
        assert code == 0, err
        rows = rows_of(json.loads(text)["table"])
        of_crop = [row for row in rows if row["a"].endswith("crop.png")]
        assert len(of_crop) >= 3 and {row["kind"] for row in of_crop} <= {"neighbour", "duplicate"}
        assert ("b/03.png", "cropped") in {(row["b"], row["by"]) for row in of_crop}
        assert Image.open(tmp_path / "out" / "similar.png").height > 100


def test_check_of_data_names_leaks(capsys, tmp_path, model, photographs):
    command = ["data", "check", "--config=configs/folder.py", f"--config.data.folder={photographs}",
               "--config.data.split=train", "--json"]  # fmt: skip
    told = [f"--leaks={model}", f"--out={tmp_path / 'out'}"]
    code, text, err = call(capsys, *command, "--config.data.eval_split=test", *told)
    assert code == 0 and json.loads(text).items() >= {"records": 20, "leaks": 6}.items(), err
    for wrong, message in (
        ([*command, told[0]], "--leaks and --out go together"),
        ([*command, "--config.data.eval_split=None", *told], "data.eval_split is not set"),
        (["data", "check", str(photographs), *told], "--leaks needs a --config"),
    ):
        code, _, err = call(capsys, *wrong)
        assert code == 2 and message in err


def test_odd_images(capsys, tmp_path, model, pieces):
    """Grey, of 16 bits, flat, of other sizes, a broken one, none with a label."""
    folder, rng = tmp_path / "odd", np.random.default_rng(0)
    folder.mkdir()
    for index, path in enumerate(sorted(pieces.rglob("*.png"))[:6]):
        Image.open(path).resize((40 + index, 60)).convert("L").save(folder / f"{index}.png")
    deep = rng.integers(0, 65536, (40, 40), np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(deep).save(folder / "deep_again.tif")
    Image.new("L", (30, 30), 7).save(folder / "flat.png")
    Image.new("L", (30, 30), 200).save(folder / "flat_too.png")
    (folder / "broken.png").write_bytes(b"no image")
    code, text, err = call(capsys, "similar", model, f"--images={folder}", "--k=3",
                           f"--out={tmp_path / 'out'}", "--json")  # fmt: skip
    assert code == 0 and "broken.png" in err, err
    result = json.loads(text)
    assert result["broken"] == 1 and "of_two_labels" not in result
    assert {row["a"] for row in rows_of(result["table"])} >= {"deep.png"}
    assert "flat.png" not in {row["a"] for row in rows_of(result["table"])}


def test_floats(tmp_path):
    """Copies in units of their own, of pixels without a range, some without data."""
    weights = random_weights()
    given = Pixels((32, 32), 3, "float32", mean=(300.0,), std=(80.0,), crop=1.0, nodata="nan")
    export.export(dataclasses.replace(weights, pixels=given), tmp_path / "model", format="npz")
    rng, folder = np.random.default_rng(0), tmp_path / "arrays"
    folder.mkdir()
    for index in range(12):
        image = np.kron(rng.normal(300, 80, (8, 8, 3)), np.ones((4, 4, 1))).astype(np.float32)
        np.save(folder / f"{index:02d}.npy", image)
    image[:3] = np.nan
    np.save(folder / "gaps.npy", image[:, ::-1])
    found = mae_jax.similar(tmp_path / "model", images=folder, out=tmp_path / "out")
    (row,) = rows_of(found.table)
    assert (row["a"], row["b"], row["by"]) == ("11.npy", "gaps.npy", "mirrored")
    assert "recall_jpeg" not in found.measures and found.measures["recall_mirror"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images=EMPTY"], "has no images"),
        (["--images=nowhere"], "'nowhere' are neither a folder nor a file"),
        (["--images=ONE"], "has no others to be compared with"),
        (["--images=PIECES", "--k=20"], "--k=20 must be at most 19"),
        (["--images=PIECES", "--k=0"], "--k=0 must be at least 1"),
        (["--images=PIECES", "--query=ONE", "--k=21"], "--k=21 must be at most 20"),
        (["--images=PIECES", "--threshold=2"], "--threshold=2.0 must be above 0"),
        (["--images=PIECES", "--also=turned"], "--also=turned is unknown"),
        (["--images=PIECES", "--leaks_alone"], "--leaks_alone needs two sets"),
        (["--images=PIECES", "--query=ONE", "--held_out=ONE"], "--held_out goes with --images"),
        ([], "exactly one of --images and --config"),
    ],
)
def test_mistakes(capsys, tmp_path, monkeypatch, model, pieces, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": tmp_path / "empty", "ONE": next(pieces.rglob("*.png")), "PIECES": pieces}
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    code, out, err = call(capsys, "similar", model, *arguments, "--out=found")
    lines = [line for line in err.splitlines() if line.startswith("mae-jax: ")]
    assert code == 2 and out == "" and len(lines) == 1 and message in lines[0], err
    assert not list(tmp_path.rglob("*.npz"))


def test_what_is_missing_is_said_at_once(capsys, tmp_path, monkeypatch, model, pieces):
    from mae_jax.inference import nearest

    command = ["similar", model, f"--images={pieces}", f"--out={tmp_path / 'out'}"]
    monkeypatch.setattr(nearest, "available_memory", lambda: 1000)
    code, _, err = call(capsys, *command)
    assert code == 2 and "20 images need" in err and not (tmp_path / "out").exists()
    monkeypatch.setitem(sys.modules, "faiss", None)
    code, _, err = call(capsys, *command)
    assert code == 2 and "pip install 'mae_jax[similar]'" in err


def test_a_folder_of_other_weights_is_refused(capsys, tmp_path, model, pieces):
    command = [f"--images={pieces}", f"--out={tmp_path / 'out'}", "--also=none"]
    assert call(capsys, "similar", model, *command)[0] == 0
    export.export(random_weights(seed=1), tmp_path / "other", format="safetensors")
    code, _, err = call(capsys, "similar", tmp_path / "other", *command)
    assert code == 2 and "is there already, of something else" in err

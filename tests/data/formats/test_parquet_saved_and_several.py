"""Parquet files, saved sets, several places: what they say, and what is wrong with them."""

import os

import numpy as np
import pytest
from lying import names, picture, tar, written
from PIL import Image

from mae_jax.config import default_config
from mae_jax.data import check, loader, opening, sources
from mae_jax.data.sources import FolderSource
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.pixels import Pixels

PICTURE = loader.Picture(Pixels((8, 8), 3, crop=1.0), (0.3, 1.0), (3 / 4, 4 / 3), True)


def test_parquet_images_as_bytes_as_structs_and_missing(tmp_path, capsys):
    data = [picture(i) for i in range(7)]
    plain = FolderSource(str(written(tmp_path / "a" / "x.parquet", image=data)), "all")
    cells = [{"bytes": d, "path": None} for d in data[:5]] + [
        {"bytes": None, "path": None},
        {"bytes": None, "path": "by.png"},
    ]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "by.png").write_bytes(data[6])
    structs = FolderSource(str(written(tmp_path / "b" / "x.parquet", image=cells)), "all")
    assert [plain[i].data for i in (6, 0, 5, 1)] == [data[i] for i in (6, 0, 5, 1)]
    assert structs[6].data == data[6] and not structs.classes
    with pytest.raises(BrokenRecord, match=r"x\.parquet/00000005: its row has no image"):
        structs[5]
    assert "an image with up to 2 others, which is slow at random; mae-jax data prepare" in (
        capsys.readouterr().err
    )
    found = check.check(structs, PICTURE, 1)
    assert found["records"] == 7 and found["broken"] == 1


def test_parquet_that_is_wrong(tmp_path):
    images = [picture(i) for i in range(2)]
    two = written(tmp_path / "a" / "x.parquet", left=images, right=images)
    with pytest.raises(UsageError, match="has 2 columns of images among left, right; one"):
        FolderSource(str(two), "all")
    written(tmp_path / "b" / "0.parquet", image=images, label=[0, 1])
    written(tmp_path / "b" / "1.parquet", image=images)
    some = FolderSource(str(tmp_path / "b"), "all")
    assert some.classes == ["0", "1"] and some.labels().tolist() == [0, 1, -1, -1]
    written(tmp_path / "b" / "1.parquet", picture=images)
    with pytest.raises(UsageError, match=r"1\.parquet' has no column 'image'"):
        FolderSource(str(tmp_path / "b"), "all")
    (tmp_path / "b" / "1.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"1\.parquet' is no Parquet file"):
        FolderSource(str(tmp_path / "b"), "all")


def test_a_saved_set_that_is_wrong(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "a")
    with pytest.raises(UsageError, match="has 0 columns of images among text"):
        FolderSource(str(tmp_path / "a"), "all")
    (tmp_path / "a" / "state.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be opened by datasets"):
        FolderSource(str(tmp_path / "a"), "all")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'mae_jax\[datasets\]'"):
        FolderSource(str(tmp_path / "a"), "all")


@pytest.mark.parametrize("kind", ["uint16", "float32", "grey"])
def test_grey_deep_and_float_images_behind_a_door_are_those_of_the_folder(tmp_path, kind):
    rng = np.random.default_rng(0)
    (tmp_path / "f" / "c").mkdir(parents=True)
    for index in range(4):
        if kind == "float32":
            np.save(tmp_path / "f" / "c" / f"{index}.npy", rng.normal(size=(9, 9, 1)))
        else:
            deep = rng.integers(0, 2**16, (9, 9)).astype(np.uint16)
            made = Image.fromarray(deep if kind == "uint16" else (deep >> 8).astype(np.uint8))
            made.save(tmp_path / "f" / "c" / f"{index}.png")
    files = sorted((tmp_path / "f").rglob("*.*"))
    tar(tmp_path / "s.tar", [(f"c/{p.name}", p.read_bytes()) for p in files])
    written(tmp_path / "p" / "x.parquet", image=[p.read_bytes() for p in files])
    pixels = "uint8" if kind == "grey" else "float32"
    form = loader.Picture(
        Pixels((8, 8), 1, pixels, (0.5,), (1.0,), crop=1.0), (0.3, 1.0), (3 / 4, 4 / 3), True
    )
    settings = dict(batch_size=4, seed=0, steps=3)
    expected, *others = (
        loader.TrainBatches(FolderSource(str(tmp_path / place), "all"), form, **settings)[2]
        for place in ("f", "s.tar", "p")
    )
    for other in others:
        np.testing.assert_array_equal(other["image"], expected["image"])


def test_parquet_with_other_class_names_and_tables_with_bytes(tmp_path):
    datasets = pytest.importorskip("datasets")
    for split, classes in (("train", ["cat", "dog"]), ("val", ["dog", "cat"])):
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=classes)}
        )
        rows = [{"image": {"bytes": picture(), "path": None}, "label": 0}]
        (tmp_path / "p").mkdir(exist_ok=True)
        datasets.Dataset.from_list(rows, features).to_parquet(tmp_path / "p" / f"{split}.parquet")
    with pytest.raises(UsageError, match="has other classes than .*, or in another order"):
        FolderSource(str(tmp_path / "p"), "train")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.png").write_bytes(picture())
    hashed = written(tmp_path / "t" / "t.parquet", path=["a.png"], md5=[b"x"], label=["cat"])
    assert names(FolderSource(str(hashed), "all")) == ["a.png"]


def test_a_saved_set_may_have_a_format(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{"image": {"bytes": picture(i), "path": None}, "label": i} for i in range(3)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    made = datasets.Dataset.from_list(rows, features)
    made.with_format("numpy", columns=["image"]).save_to_disk(tmp_path / "s")
    source = FolderSource(str(tmp_path / "s"), "all")
    assert source.labels().tolist() == [0, 1, 2] and source[2].data == picture(2)


def test_images_of_a_verb_may_lie_so_too(tmp_path):
    path = tar(tmp_path / "a.tar", [("a.png", picture())])
    assert names(sources.open_images(path)) == ["a.png"]
    (tmp_path / "b.png").write_bytes(picture())
    assert names(sources.open_images(tmp_path / "b.png")) == ["b.png"]
    with pytest.raises(UsageError, match="are neither a folder nor a file"):
        sources.open_images(tmp_path / "c.tar")
    data = default_config().data
    data.mixture = ((str(path), 1.0),)
    assert len(sources.open_source(data, "all")) == 1


def test_several_places_are_one_set(tmp_path):
    for place, classes in (("a", ("cat", "dog")), ("b", ("dog", "elk"))):
        for number, name in enumerate(classes):
            (tmp_path / place / name).mkdir(parents=True)
            (tmp_path / place / name / "1.png").write_bytes(picture(number))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "1.png").write_bytes(picture(2))
    a, b, c = (str(tmp_path / place) for place in "abc")
    data = default_config().data
    data.folder = f"{a},{b}/, {c}"
    source = sources.open_source(data, "all")
    assert source.classes == ["cat", "dog", "elk"]
    assert source.labels().tolist() == [0, 1, 1, 2, -1]
    assert names(source) == [
        f"{a}/cat/1.png", f"{a}/dog/1.png", f"{b}/dog/1.png", f"{b}/elk/1.png", f"{c}/1.png",
    ]  # fmt: skip
    assert [source[i].label for i in range(5)] == source.labels().tolist()
    assert [source[i].name for i in range(5)] == names(source)
    assert source[3].data == picture(1) and source.parts == (5,)
    assert len(sources.labelled(source)) == 4
    assert source.fingerprint() == sources.open_source(data, "all").fingerprint()
    assert names(sources.open_images(data.folder)) == names(source)
    data.folder = f"{c},{c}/x"
    with pytest.raises(UsageError, match="c/x' is neither a folder nor a file"):
        sources.open_source(data, "all")
    data.folder = f"{a},{b}"
    with pytest.raises(UsageError, match=r"has a class 'elk' \(elk/1\.png\) that the training"):
        sources.open_source(data, "all", ["cat", "dog"])
    (tmp_path / "a").rename(tmp_path / "a,b")  # a path with a comma in it
    data.folder = str(tmp_path / "a,b")
    assert sources.open_source(data, "all").classes == ["cat", "dog"]


def test_a_folder_with_images_is_that_whatever_else_lies_there(tmp_path):
    tar(tmp_path / "a.tar", [("a.png", picture())])
    (tmp_path / "b.png").write_bytes(picture())
    assert names(FolderSource(str(tmp_path), "all")) == ["b.png"]
    os.unlink(tmp_path / "b.png")
    (tmp_path / "._a.tar").write_bytes(b"a Mac's")  # hidden
    assert names(FolderSource(str(tmp_path), "all")) == ["a.png"]
    assert opening.is_there(str(tmp_path)) and not opening.is_there(str(tmp_path / "x"))

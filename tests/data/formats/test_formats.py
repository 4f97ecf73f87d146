"""What formats say, what they lack, and what is wrong with them."""

import csv
import io
import json
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from mae_jax.config import default_config
from mae_jax.data import check, loader, opening, prepare, sources
from mae_jax.data.describe import describe
from mae_jax.data.formats import tars
from mae_jax.data.sources import FolderSource
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.pixels import Pixels

PICTURE = loader.Picture(Pixels((8, 8), 3, crop=1.0), (0.3, 1.0), (3 / 4, 4 / 3), True)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mae_jax" / "tars"


def picture(seed=0, size=(12, 10), kind="PNG"):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind)
    return data.getvalue()


def table(folder, rows, name="table.csv"):
    """A table beside the images that it names, which are made."""
    folder.mkdir(exist_ok=True)
    for number, row in enumerate(rows):
        if row.get("path") and not (folder / row["path"]).exists():
            (folder / row["path"]).parent.mkdir(parents=True, exist_ok=True)
            (folder / row["path"]).write_bytes(picture(number))
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as made:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return path


def names(source):
    return [source.name(index) for index in range(len(source))]


def test_a_table_says_labels_splits_and_which_have_none(tmp_path):
    path = table(
        tmp_path / "t",
        [
            {"path": "b.png", "label": "10", "split": "train"},
            {"path": "deep/a.png", "label": "9", "split": "train"},
            {"path": "c.png", "label": "", "split": "train"},
            {"path": "d.png", "label": "10", "split": "held out"},
            {"path": "e.png", "label": "7", "split": ""},
        ],
    )
    train = FolderSource(str(path), "train")
    assert names(train) == ["b.png", "deep/a.png", "c.png"]  # as they stand
    assert train.classes == ["9", "10"] and train.labels().tolist() == [1, 0, -1]
    assert describe(train) == ("3 images of 2 classes: 9 (1), 10 (1); 1 have no label")
    assert names(sources.labelled(train)) == ["b.png", "deep/a.png"]
    held = FolderSource(str(path), "'held out'", train.classes)
    assert held.labels().tolist() == [1]
    assert len(FolderSource(str(path), "all")) == 5
    with pytest.raises(UsageError, match=r"has a class '7' \(e\.png\) that the training split"):
        FolderSource(str(path), "all", train.classes)
    with pytest.raises(UsageError, match="known are 'held out', train, all"):
        FolderSource(str(path), "test")


def test_a_table_without_labels_takes_none_from_folders(tmp_path):
    path = table(tmp_path / "t", [{"path": "cat/a.png"}, {"path": "dog/b.png"}])
    source = FolderSource(str(path), "all")
    assert not source.classes
    assert source.no_labels() == (
        "needs labelled data, and this has none: the table has no labels in a column label; it has "
        "path; name classes in a table, data.labels"
    )


def test_numbers_with_gaps_are_the_same_classes_in_every_table(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"path": f"{i}.png", "label": None if i == 2 else i % 2} for i in range(5)]
    lines = FolderSource(str(table(tmp_path / "t", rows, "table.jsonl")), "all")
    floats = pa.table(
        {"path": [r["path"] for r in rows], "label": [0.0, 1.0, float("nan"), 1.0, 0.0]}
    )
    parquet.write_table(floats, tmp_path / "t" / "table.parquet")
    as_floats = FolderSource(str(tmp_path / "t" / "table.parquet"), "all")
    assert lines.classes == as_floats.classes == ["0", "1"]
    assert lines.labels().tolist() == [0, 1, -1, 1, 0]
    assert as_floats.labels().tolist() == [0, 1, -1, 1, 0]


def test_shares_keep_groups_together_and_make_up_the_whole(tmp_path):
    rows = [{"path": f"{i}.png", "group": "" if i > 25 else f"patient {i // 4}"} for i in range(30)]
    path = str(table(tmp_path / "t", rows))
    shares = [names(FolderSource(path, f"all[{a}%:{a + 25}%]")) for a in (0, 25, 50, 75)]
    whole = sorted((name for share in shares for name in share), key=lambda name: int(name[:-4]))
    assert whole == [row["path"] for row in rows]
    assert all(4 <= len(share) <= 11 for share in shares)
    for patient in range(6):
        of = {f"{i}.png" for i in range(30) if i // 4 == patient}
        assert sum(bool(of & set(share)) for share in shares) == 1
    prepare.prepare(path, str(tmp_path / "set"), workers=1)
    assert names(FolderSource(str(tmp_path / "set"), "all[:25%]")) == shares[0]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"file": "a.png"}], "has no column path; it has file"),
        ([{"path": "a.png"}, {"path": "a.png"}], "names 'a.png' twice, in rows 1 and 2"),
        ([{"path": "a.png"}, {"path": ""}], "has no path in row 2, but ''"),
        ([{"path": "a.png", "file_name": "b"}], "has both 'path' and 'file_name'; drop one"),
        (
            [
                {"path": "a.png", "split": "train", "group": "p"},
                {"path": "b.png", "split": "val", "group": "p"},
            ],
            "has group 'p' in the splits 'train' and 'val'",
        ),
    ],
)
@pytest.mark.parametrize("name", ["table.csv", "table.jsonl"])
def test_tables_that_are_wrong(tmp_path, rows, match, name):
    path = table(tmp_path / "t", rows, name)
    with pytest.raises(UsageError, match=match):
        FolderSource(str(path), "all")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("t.csv", b"", "has no rows"),
        ("t.csv", b"path\nmissing.png\n", "names 'missing.png' in row 1: No such file"),
        ("t.csv", b"path\n\x00\n", "table"),
        ("t.jsonl", b"[1]\n", "row 1 is no object of columns"),
        ("t.jsonl", b"{", "is no table"),
        ("t.jsonl", b'{"path": ["a"]}', r"has no path in row 1, but \['a'\]"),
        ("t.parquet", b"PAR1", "is no Parquet file that can be read"),
        ("t.tar", b"nothing", "is no whole, uncompressed tar file"),
        ("t.tar.gz", b"nothing", "is a file, and none that holds or names images"),
        ("t.txt", b"nothing", "is a file, and none that holds or names images"),
    ],
)
def test_files_that_are_wrong(tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=match):
        FolderSource(str(tmp_path / name), "all")


def test_a_label_that_is_no_name_is_refused(tmp_path):
    path = table(tmp_path / "t", [{"path": "a.png", "label": ["cat"]}], "t.jsonl")
    with pytest.raises(UsageError, match=r"t\.jsonl' has \['cat'\], where a name or a number"):
        FolderSource(str(path), "all")


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


def written(place, **columns):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    place.parent.mkdir(exist_ok=True)
    parquet.write_table(pa.table(columns), place, row_group_size=3)
    return place


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


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("path,label\na.png,b,c\n", "has 3 cells in row 1, and 2 columns; a comma in a cell"),
        ("path,label\na.png\n", "has 1 cells in row 1, and 2 columns"),
        ("path,label,label\na.png,b,c\n", "has two columns 'label'; drop one"),
        ("path\na.png\n./a.png\n", "names './a.png' twice, in rows 1 and 2"),
        ("path\n.\n", "names '.' in row 1: it is no file"),
        (f"path,label\na.png,{'9' * 5000}\n", None),
    ],
)
def test_tables_whose_rows_do_not_fit(tmp_path, text, match):
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "t.csv").write_text(text)
    if match is None:
        assert len(FolderSource(str(tmp_path / "t.csv"), "all").classes) == 1
        return
    with pytest.raises(UsageError, match=match):
        FolderSource(str(tmp_path / "t.csv"), "all")


def test_what_a_later_row_has_and_how_heads_are_spaced(tmp_path):
    rows = [{"path": "a.png"}, {"path": "b.png", "label": "x", "split": "train"}]
    lines = str(table(tmp_path / "t", rows, "t.jsonl"))
    assert FolderSource(lines, "train").classes == ["x"]
    assert FolderSource(lines, "all").labels().tolist() == [-1, 0]
    (tmp_path / "t" / "t.csv").write_text("path, label , split\na.png, x, train\n")
    assert FolderSource(str(tmp_path / "t" / "t.csv"), "train").classes == ["x"]
    with pytest.raises(UsageError, match=r"'\\ud800', which is no text"):
        FolderSource(
            str(table(tmp_path / "u", [{"path": "a", "label": "\ud800"}], "t.jsonl")), "all"
        )


def test_numbers_are_the_same_classes_as_text_and_none_below_zero(tmp_path):
    rows = [{"path": f"{i}.png", "label": label} for i, label in enumerate(
        ("0.0", "10.0", "2.0", "nan", "-1.0"))]  # fmt: skip
    source = FolderSource(str(table(tmp_path / "t", rows)), "all")
    assert source.classes == ["0", "2", "10"] and source.labels().tolist() == [0, 2, 1, -1, -1]
    images = [picture(i) for i in range(3)]
    source = FolderSource(
        str(written(tmp_path / "p" / "x.parquet", image=images, label=[-1, 1, 0])), "all"
    )
    assert source.classes == ["0", "1"] and source.labels().tolist() == [-1, 1, 0]


def test_classes_have_one_order(tmp_path):
    labels = ["1", "01", "001", "b", "10", "a", "2"]
    rows = [{"path": f"{i}.png", "label": label} for i, label in enumerate(labels)]
    source = FolderSource(str(table(tmp_path / "t", rows)), "all")
    assert source.classes == ["001", "01", "1", "2", "10", "a", "b"]


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

"""Tables of files: what they say, what they lack, and what is wrong with them."""

import pytest
from lying import names, picture, table, written

from mae_jax.data import prepare, sources
from mae_jax.data.describe import describe
from mae_jax.data.sources import FolderSource
from mae_jax.errors import UsageError


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

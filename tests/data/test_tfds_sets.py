"""tfds data sets as they are found damaged."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from mae_jax.data.describe import overlap
from mae_jax.data.tfds_sets import TfdsSource
from mae_jax.errors import BrokenRecord, UsageError


@pytest.fixture
def copied(tfds_dir, tmp_path):
    """A data directory of its own, and its training shard."""
    shutil.copytree(tfds_dir, tmp_path / "tfds")
    (shard,) = (tmp_path / "tfds").rglob("*train*array_record*")
    return str(tmp_path / "tfds"), Path(shard)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.9999])
def test_a_shard_cut_short_is_refused_or_its_records_are_broken(copied, share):
    directory, shard = copied
    os.truncate(shard, int(shard.stat().st_size * share))
    with pytest.raises((UsageError, BrokenRecord), match="handwritten_digits"):
        source = TfdsSource("handwritten_digits", "train", directory)
        for index in range(len(source)):
            source[index]


def test_flipped_bytes_in_a_shard_are_named(copied):
    directory, shard = copied
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    source = TfdsSource("handwritten_digits", "train", directory)
    broken = []
    for index in range(len(source)):
        try:
            source[index]
        except BrokenRecord as error:
            broken.append(str(error))
    assert broken and all(line.startswith("handwritten_digits:train[") for line in broken)


def test_a_missing_shard_is_refused(copied):
    directory, shard = copied
    shard.unlink()
    with pytest.raises((UsageError, BrokenRecord), match="handwritten_digits"):
        TfdsSource("handwritten_digits", "train", directory)[0]


def test_a_record_has_one_name_in_every_split(tfds_dir):
    made = {
        split: TfdsSource("handwritten_digits", split, tfds_dir)
        for split in ("train", "train[50:]", "test[:9]+train[90:100]", "test")
    }
    assert made["train[50:]"].name(0) == "handwritten_digits:train[50]"
    both = made["test[:9]+train[90:100]"]
    assert [both.name(i)[19:] for i in (0, 8, 9, 18)] == [
        "test[0]", "test[8]", "train[90]", "train[99]",
    ]  # fmt: skip
    assert both[9].data == made["train"][90].data
    assert overlap(made["train[50:]"], both).startswith("10 of 19 held-out images")
    assert overlap(made["train"], made["test"]) is None


@pytest.mark.parametrize("key", ["pythonClassName", "python\\u005fclass_name"])
def test_what_a_set_names_is_not_imported(copied, tmp_path, monkeypatch, key):
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    folder = copied[1].parent
    for path in [*folder.iterdir()]:
        text = path.read_text() if path.suffix == ".json" else ""
        if text:
            path.write_text(text.replace("handwritten_digits", "handmade"))
        path.rename(path.with_name(path.name.replace("handwritten_digits", "handmade")))
    folder = folder.parent.rename(folder.parent.with_name("handmade")) / folder.name
    assert len(TfdsSource("handmade", "test", copied[0])) == 360
    features = folder / "features.json"
    text = features.read_text()
    ours = '"pythonClassName": "tensorflow_datasets.core.features.image_feature.Image"'
    features.write_text(text.replace(ours, f'"{key}": "evil.Image"'))
    for name in ("handmade", "handmade:1.0.0"):
        with pytest.raises(UsageError, match="names 'evil.Image', which is not tfds' own"):
            TfdsSource(name, "test", copied[0])
    assert not (tmp_path / "ran").exists()
    monkeypatch.setattr("mae_jax.data.tfds_sets._check_names_no_code", lambda *_: None)
    with pytest.raises(UsageError, match="could not be prepared"):
        TfdsSource("handmade", "test", copied[0])
    assert (tmp_path / "ran").exists()  # it would have been


def test_a_broken_record_is_named_when_labels_are_read(copied):
    directory, shard = copied
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(BrokenRecord, match=r"^handwritten_digits:train\["):
        TfdsSource("handwritten_digits", "train", directory).labels()


def test_preparing_leaves_stdout_alone(tmp_path, capsys):
    assert len(TfdsSource("handwritten_digits", "test", str(tmp_path)))
    assert list(tmp_path.rglob("*array_record*")) and not capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "raised", "message"),
    [
        (
            "mnist_of_sorts",
            ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow"),
            "is not prepared here, and .* TensorFlow is needed; pip install 'mae_jax",
        ),
        (
            "huggingface:mnist",
            ModuleNotFoundError("No module named 'huggingface_hub'", name="huggingface_hub"),
            "needs the package datasets, which is not installed; pip install datasets",
        ),
        (
            "huggingface:mnist",
            ConnectionError("Couldn't reach 'mnist' on the Hub (LocalEntryNotFoundError)\nmore"),
            r"could not be prepared: Couldn't reach 'mnist' on the Hub \(LocalEntryNotFoundEr",
        ),
    ],
)
def test_sets_that_cannot_be_had_are_one_sentence(tmp_path, monkeypatch, name, raised, message):
    import tensorflow_datasets as tfds

    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(tfds, "builder", fail)
    with pytest.raises(UsageError, match=f"^data.name '{name}' {message}"):
        TfdsSource(name, "train", str(tmp_path))


def test_a_name_that_is_unknown_where_nothing_can_be_listed(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(*_, **__):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    def unknown(name, **_):
        raise tfds.core.DatasetNotFoundError(name)

    monkeypatch.setattr(tfds, "builder", unknown)
    monkeypatch.setattr(tfds, "list_builders", fail)
    with pytest.raises(UsageError, match="^data.name 'nosuch' is not a tfds data set$"):
        TfdsSource("nosuch", "train", str(tmp_path))


def test_splits_of_tfds_sets_may_be_quoted_and_home_written_short(tfds_dir, monkeypatch):
    monkeypatch.setenv("HOME", str(Path(tfds_dir).parent))
    short = f"~/{Path(tfds_dir).name}"
    plain = TfdsSource("handwritten_digits", "test[:10%]+train[-5:]", short)
    quoted = TfdsSource("handwritten_digits", "'test'[:10%]+train[-5:]", short)
    assert len(plain) == len(quoted) == 41
    assert all(plain[i].data == quoted[i].data for i in (0, 35, 36, 40))
    assert len(TfdsSource("handwritten_digits", "all", short)) == 1797

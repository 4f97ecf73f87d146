"""tfds data sets as they are found damaged."""

import os
import shutil
from pathlib import Path

import pytest

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


def test_preparing_leaves_stdout_alone(tmp_path, capsys):
    assert len(TfdsSource("handwritten_digits", "test", str(tmp_path)))
    assert list(tmp_path.rglob("*array_record*")) and not capsys.readouterr().out

"""Checkpoints that are what was saved, or are not taken."""

import contextlib
import json
import os
import random
import re
import resource
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mae_jax import cli
from mae_jax.errors import NoSpace, NoUsableCheckpoint, UsageError
from mae_jax.train import loop
from mae_jax.train.checkpoints import checkpoint, manifest


def saved(folder):
    """The names in a run's checkpoints/."""
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def largest(folder):
    return max(files(folder), key=lambda path: path.stat().st_size)


def flip(path, bit):
    """Turns one bit around; twice is never."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def leaves(folder, step=None):
    model = checkpoint.read_model(str(folder), step)
    return model["step"], jax.tree.leaves(model["params"])


def assert_equal(one, other):
    for x, y in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, y)


def flips(step, count):
    """(file, bit) over all files of a checkpoint, each at least once, larger ones more often."""
    rng, paths = random.Random(0), files(step)
    paths += rng.choices(paths, [p.stat().st_size for p in paths], k=count - len(paths))
    return [(path, rng.randrange(8 * path.stat().st_size)) for path in paths]


def test_no_flipped_bit_and_no_lost_byte_of_any_file_goes_unseen(run):
    step = run / "checkpoints" / "8"
    assert manifest.damage(step) is None
    # How many there are of arrays depends on how fast they were written.
    items = {path.relative_to(step).parts[0] for path in files(step)}
    assert items >= {"_CHECKPOINT_METADATA", "config", "model", "optimizer", "position"}
    assert len(files(step)) > 20
    for path, bit in flips(step, 200):
        flip(path, bit)
        assert manifest.damage(step) is not None, (path, bit)
        flip(path, bit)
    for path in files(step):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        assert manifest.damage(step) is not None, path
        path.write_bytes(whole)
    assert manifest.damage(step) is None


def test_readers_take_the_checkpoint_before_and_change_nothing(run, capsys):
    names = saved(run)
    (_, whole), before = leaves(run), leaves(run, 6)
    step = run / "checkpoints" / "8"
    for path, bit in random.Random(1).sample(flips(step, 200), 6):
        flip(path, bit)
        found, values = leaves(run)
        assert found == 6
        assert_equal(values, before[1])
        assert re.search(
            r"checkpoint 8 in .* is damaged: .*; 6 is read inst", capsys.readouterr().err
        )
        with pytest.raises(NoUsableCheckpoint, match="checkpoint 8 in .* cannot be restored"):
            leaves(run, 8)
        flip(path, bit)
    assert saved(run) == names
    assert_equal(leaves(run)[1], whole)


def test_a_moving_average_goes_on_with_the_rest(digits_config, tmp_path):
    folder, digits_config.train.ema = tmp_path / "run", 0.5
    loop.run(digits_config, folder, quiet=True)
    (_, whole), model = leaves(folder), checkpoint.arrays(folder / "checkpoints", 8, "model").model
    averaged, trained = jax.tree.leaves(model["ema"]), jax.tree.leaves(model["params"])
    assert any(not np.array_equal(a, b) for a, b in zip(averaged, trained, strict=True))
    shutil.rmtree(folder / "checkpoints" / "8")
    loop.run(digits_config, folder, quiet=True)
    assert_equal(leaves(folder)[1], whole)


def cut(step):
    os.truncate(largest(step), largest(step).stat().st_size // 2)


def remove(step):
    largest(step).unlink()


def flip_weights(step):
    flip(largest(step), 8 * 1000)


def cut_manifest(step):
    os.truncate(step / manifest.NAME, 900)


def remove_manifest(step):
    (step / manifest.NAME).unlink()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (cut, r"its file \S+ has \d+ bytes of \d+"),
        (flip_weights, r"its file \S+ has other bytes than were saved"),
        (remove_manifest, "its manifest.json is missing"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_run_sets_a_damaged_checkpoint_aside_and_ends_as_if_it_was_whole(
    made, run, capsys, damage, why
):
    damage(run / "checkpoints" / "8")
    broken = {path.name: path.read_bytes() for path in files(run / "checkpoints" / "8")}
    loop.run(made[1], run, quiet=True)
    assert saved(run) == ["6", "8", "8.damaged-1"]
    aside = files(run / "checkpoints" / "8.damaged-1")
    assert {path.name: path.read_bytes() for path in aside} == broken
    assert re.search(
        rf"checkpoint 8 is damaged and set aside as \S*8.damaged-1: {why}", capsys.readouterr().err
    )
    assert leaves(run)[0] == 8
    assert_equal(leaves(run)[1], leaves(made[0])[1])


@pytest.mark.parametrize(
    ("damage", "why"),
    [(remove, r"its file \S+ is missing"), (cut_manifest, "its manifest.json is damaged")],
)
def test_what_is_gone_is_seen(run, capsys, damage, why):
    damage(run / "checkpoints" / "8")
    assert leaves(run)[0] == 6
    assert re.search(f"checkpoint 8 in .* is damaged: {why}; 6 is read", capsys.readouterr().err)


def test_with_none_left_a_run_stops_and_stays_stopped(made, run, capsys):
    for step in (6, 8):
        flip_weights(run / "checkpoints" / str(step))
    for _ in range(2):
        with pytest.raises(NoUsableCheckpoint, match="8 in .* other bytes .*; checkpoint 6 in"):
            loop.run(made[1], run, quiet=True)
        assert saved(run) == ["6", "8"]  # nothing is there to be taken in their place
    with pytest.raises(NoUsableCheckpoint, match="checkpoint 8 in .*; checkpoint 6 in"):
        checkpoint.read_model(str(run))
    # Nor does a run begin anew where the last whole one is gone.
    for step in (6, 8):
        manifest.set_aside(run / "checkpoints" / str(step), "damaged")
    with pytest.raises(NoUsableCheckpoint, match=r"set aside \(6.damaged-1, 8.damaged-1\)"):
        loop.run(made[1], run, quiet=True)
    with pytest.raises(UsageError, match="has no finished checkpoint"):
        checkpoint.read_model(str(run))


@pytest.mark.parametrize(
    ("error", "raised", "match"),
    [
        (PermissionError("not yours"), NoUsableCheckpoint, r"checkpoint 8 in \S+ .*not yours"),
        (RuntimeError("of what computes"), RuntimeError, "^of what computes$"),
    ],
)
def test_a_whole_checkpoint_that_cannot_be_restored_is_not_damaged(
    made, run, monkeypatch, error, raised, match
):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(ocp.CheckpointManager, "restore", refuse)
    with pytest.raises(raised, match=match):
        loop.run(made[1], run, quiet=True)
    assert saved(run) == ["6", "8"]


def test_what_is_set_aside_never_takes_anothers_name(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / "4").mkdir()
        aside = manifest.set_aside(tmp_path / "4", "damaged")
        assert aside == tmp_path / f"4.damaged-{number}" and aside.is_dir()
    assert manifest.damaged(tmp_path) == [f"4.damaged-{number}" for number in (1, 2, 3)]


def test_what_is_no_checkpoint_is_left_alone(made, run, capsys):
    (run / "checkpoints" / "999").mkdir()
    (run / "checkpoints" / "7").mkdir()
    (run / "checkpoints" / "7" / "notes.txt").write_text("mine")
    summary = loop.run(made[1], run, quiet=True)
    assert summary["checkpoint"].endswith("/8") and leaves(run)[0] == 8
    said = capsys.readouterr().err
    assert "/999 is no checkpoint of a run, and is left alone" in said
    assert "/7 is no checkpoint of a run, and is left alone" in said
    with pytest.raises(UsageError, match=r"no checkpoint of step 999; it has \[6, 8\]"):
        leaves(run, 999)
    # Where a checkpoint has to lie, it makes room.
    shutil.rmtree(run / "checkpoints" / "8")
    (run / "checkpoints" / "7").rename(run / "checkpoints" / "8")
    loop.run(made[1], run, quiet=True)
    assert saved(run) == ["6", "8", "8.foreign-1", "999"]
    assert (run / "checkpoints" / "8.foreign-1" / "notes.txt").read_text() == "mine"


@pytest.fixture
def old(run):
    """A run of a version that wrote no manifests."""
    for step in (6, 8):
        folder = run / "checkpoints" / str(step)
        (folder / manifest.NAME).unlink()
        position = folder / "position" / "metadata"
        said = json.loads(position.read_text())
        del said["manifest"]
        position.write_text(json.dumps(said))
    return run


def test_an_older_checkpoint_without_a_manifest_loads(made, old, capsys):
    assert_equal(leaves(old)[1], leaves(made[0])[1])
    assert loop.run(made[1], old, quiet=True)["steps"] == 8
    said = "checkpoint 8 was saved without checksums, by an older version: not verified"
    assert capsys.readouterr().err.count(said) == 2
    assert saved(old) == ["6", "8"]


def test_an_older_checkpoint_that_cannot_be_read_is_set_aside(made, old):
    for path in files(old / "checkpoints" / "8"):
        if path.parent.parent.name == "model" or path.parent.name == "d":
            os.truncate(path, path.stat().st_size // 2)
    assert leaves(old)[0] == 6
    loop.run(made[1], old, quiet=True)
    assert saved(old) == ["6", "8", "8.damaged-1"]
    assert_equal(leaves(old)[1], leaves(made[0])[1])


def test_a_copy_to_elsewhere_and_back_verifies(run, tmp_path):
    there = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    copied = there / f"{tmp_path.name}-{os.getpid()}"
    try:
        # By content only: no times, owners or modes.
        shutil.copytree(run / "checkpoints", copied, copy_function=shutil.copyfile)
        shutil.rmtree(run / "checkpoints")
        shutil.copytree(copied, run / "checkpoints", copy_function=shutil.copyfile)
    finally:
        shutil.rmtree(copied, ignore_errors=True)
    assert manifest.damage(run / "checkpoints" / "8") is None
    assert leaves(run)[0] == 8


def test_a_checkpoint_has_its_name_only_once_it_has_its_manifest(made, run, monkeypatch):
    shutil.rmtree(run / "checkpoints" / "8")

    def killed(folder):
        raise InterruptedError

    monkeypatch.setattr(manifest, "write", killed)
    with pytest.raises(InterruptedError):
        loop.run(made[1], run, quiet=True)
    assert saved(run) == ["6", "8.orbax-checkpoint-tmp-sealed"]
    monkeypatch.undo()
    loop.run(made[1], run, quiet=True)
    assert saved(run) == ["6", "8"]
    assert_equal(leaves(run)[1], leaves(made[0])[1])


@contextlib.contextmanager
def full_disk(folder):
    """A file system of its own with too little room for another checkpoint."""
    used = sum(4096 * (1 + path.stat().st_size // 4096) for path in folder.rglob("*"))
    moved = folder.rename(folder.with_name("moved"))
    folder.mkdir()
    options = f"size={used + 2**18}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        shutil.copytree(moved, folder, dirs_exist_ok=True)
        yield
        shutil.copytree(folder, moved, dirs_exist_ok=True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()
    moved.rename(folder)


@contextlib.contextmanager
def short_files(folder):
    """Files that may not be longer than some are, as under a quota."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("full", [full_disk, short_files])
def test_a_full_disk_ends_a_run_in_one_sentence_and_leaves_what_was_whole(made, run, full):
    checkpoints = run / "checkpoints"
    shutil.rmtree(checkpoints / "8")
    with full(checkpoints):
        with pytest.raises(NoSpace, match="no room for a checkpoint in .*; that of step 6 is whol"):
            loop.run(made[1], run, quiet=True)
        assert saved(run) == ["6"] and manifest.damage(checkpoints / "6") is None
    loop.run(made[1], run, quiet=True)
    assert_equal(leaves(run)[1], leaves(made[0])[1])


def said(capsys, *arguments):
    code = cli.main(["mae-jax", "checkpoint", *map(str, arguments)])
    return code, capsys.readouterr()


def test_the_verb_lists_and_verifies(run, capsys):
    code, found = said(capsys, "list", run)
    assert code == 0 and found.out.count("kept: the latest 2\n") == 2
    code, found = said(capsys, "verify", run)
    assert code == 0 and found.out.count("whole") == 2
    flip_weights(run / "checkpoints" / "8")
    (run / "checkpoints" / "999").mkdir()
    code, found = said(capsys, "verify", run)
    assert code == 4 and re.search("step 8 .* damaged: its file .* has other bytes", found.out)
    assert said(capsys, "verify", run, "--step=6")[0] == 0
    manifest.set_aside(run / "checkpoints" / "8", "damaged")
    remove_manifest(run / "checkpoints" / "6")
    code, found = said(capsys, "verify", run, "--json")
    assert code == 0 and json.loads(found.out)["checkpoints"][0]["manifest"] is False
    code, found = said(capsys, "list", run)
    assert "step 6" in found.out and "has no manifest: it cannot be verified" in found.out
    assert "8.damaged-1 was damaged, and is set aside\n999 is no checkpoint" in found.out
    code, found = said(capsys, "verify", run, "--step=7")
    assert code == 2 and "has no checkpoint of step 7; it has [6]" in found.err
    code, found = said(capsys, "list", run / "checkpoints")
    assert code == 2 and "is not the work folder of a run" in found.err

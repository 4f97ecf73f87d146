"""Broken records in training and evaluation, from files as people have them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mae_jax import cli
from mae_jax.config import default_config
from mae_jax.data import loader, sources
from mae_jax.data.broken import Ledger, first_sound
from mae_jax.errors import BrokenRecord, WorkerDied
from mae_jax.pixels import Pixels
from mae_jax.train import loop, metrics

PICTURE = loader.Picture(Pixels((8, 8), 3, crop=1.0), (0.3, 1.0), (3 / 4, 4 / 3), True)


@pytest.fixture
def folder(tmp_path):
    """Forty images, of which number 7, 8 and 39 are broken, each in its way."""
    root = tmp_path / "photos"
    root.mkdir()
    rng = np.random.default_rng(0)
    for index in range(40):
        pixels = rng.integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{index:02d}.jpg")
    whole = (root / "07.jpg").read_bytes()
    (root / "07.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "08.jpg").write_bytes(b"<html>404 not found</html>")
    (root / "39.jpg").write_bytes(b"")
    return root


def batches(folder, share, say=lambda text: None, **options):
    source = sources.FolderSource(str(folder), "all")
    decode = loader.Decoder(source, PICTURE, cache=False)
    ledger = Ledger(source, share, lambda i: PICTURE.plain(decode(i)[0]), say)
    settings = dict(batch_size=8, seed=0, steps=15, ledger=ledger)
    return loader.TrainBatches(source, PICTURE, **settings | options), ledger


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_broken_records_are_replaced_counted_and_named_once(folder, workers):
    said = []
    made, ledger = batches(folder, 0.1, said.append)
    got = list(made.iterate(0, workers))
    assert ledger.seen == {7, 8, 39} and len(said) == 3
    assert sum("07.jpg: " in line for line in said) == 1
    assert any("39.jpg" in line and "of at most 4" in line for line in said)
    # Everything else is as it is without any that is broken.
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (12, 16, 3), np.uint8) for _ in range(40)]
    for index in (7, 8, 39):
        Image.fromarray(pixels[index]).save(folder / f"{index:02d}.jpg")
    sound, ledger = batches(folder, 0)
    expected = list(sound.iterate(0, 0))
    assert not ledger.seen
    differ = [
        not np.array_equal(a["image"][row], b["image"][row])
        for a, b in zip(expected, got, strict=True)
        for row in range(8)
    ]
    assert sum(differ) == 9  # three records, three epochs


def test_stand_ins_are_the_next_that_is_sound():
    def make(index):
        if index in (2, 3, 9):
            raise BrokenRecord(f"{index}")
        return index

    assert [first_sound(i, 10, make, set()) for i in (1, 2, 3, 9)] == [
        (1, 0),
        (4, 2),
        (4, 1),
        (0, 1),
    ]
    assert first_sound(2, 10, make, {2, 3}) == (4, 2)


def test_hosts_shares_agree_on_stand_ins(folder):
    whole, _ = batches(folder, 1.0)
    parts = [batches(folder, 1.0, rows=rows)[0] for rows in ([0, 3, 5], [1, 2, 4, 6, 7])]
    for step in (0, 4, 14):
        for part in parts:
            np.testing.assert_array_equal(whole[step]["image"][part.rows], part[step]["image"])


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_more_than_the_budget_ends_the_run(folder, workers):
    made, _ = batches(folder, 0.05)
    with pytest.raises(
        BrokenRecord, match=r"3 of 40 records are broken, more than the 2 that data\.broken_share"
    ):
        list(made.iterate(0, workers))
    with pytest.raises(BrokenRecord, match=r"^\d\d\.jpg: "):
        list(batches(folder, 0)[0].iterate(0, workers))


def test_nothing_but_broken_records_is_an_error(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no")
    with pytest.raises(BrokenRecord, match=r"^bad\.png: "):
        batches(tmp_path, 1.0)[0][0]


def test_a_file_that_is_gone_is_broken(folder):
    made, ledger = batches(folder, 0.1)
    (folder / "20.jpg").unlink()
    list(made.iterate(0, 0))
    assert 20 in ledger.seen


def test_reading_is_tried_again(folder, monkeypatch):
    from mae_jax.data import files

    source = sources.FolderSource(str(folder), "all")
    expected, calls = source[3].data, []

    def falter(path):
        calls.append(path)
        if len(calls) < 3:
            raise TimeoutError("stale")
        return expected

    monkeypatch.setattr(files, "_WAITS", (0.0, 0.0))
    monkeypatch.setattr(files.Path, "read_bytes", falter)
    assert source[3].data == expected and len(calls) == 3
    calls[:] = [0] * -9
    monkeypatch.setattr(files.Path, "read_bytes", lambda path: falter(calls.clear()))
    with pytest.raises(BrokenRecord, match=r"03\.jpg: stale"):
        source[3]


def test_evaluation_replaces_too(folder):
    source = sources.FolderSource(str(folder), "all")
    with pytest.raises(BrokenRecord):
        list(loader.plain_batches(source, PICTURE, 16))
    ledger = batches(folder, 1.0)[1]
    made = list(loader.plain_batches(source, PICTURE, 16, ledger=ledger))
    assert len(made) == 3 and ledger.seen == {7, 8, 39}
    images = np.concatenate([batch["image"] for batch in made])
    np.testing.assert_array_equal(images[7], images[9])
    np.testing.assert_array_equal(images[39], images[0])


@pytest.fixture
def small(folder):
    """A config of a few seconds on that folder."""
    config = default_config()
    config.data.folder, config.data.split, config.data.batch_size = str(folder), "all", 8
    config.data.workers = 0
    model, train = config.model, config.train
    model.image_size, model.patch_size, model.width, model.depth, model.heads = (8,), (4,), 16, 1, 2
    model.decoder_width, model.decoder_depth, model.decoder_heads = 16, 1, 2
    train.steps, train.warmup_epochs, config.log.tensorboard = 12, 0.1, False
    config.log.every_steps, config.checkpoint.every_epochs = 1, 10.0
    return config


def test_a_run_goes_on_and_counts(small, tmp_path, capsys):
    small.data.broken_share = 0.2
    loop.run(small, tmp_path / "run")
    assert metrics.read(tmp_path / "run")[-1]["broken_records"] == 3
    said = capsys.readouterr().err
    assert said.count("08.jpg") == 1
    assert "\ndata: 40 images, without labels (no image lies in a class folder)\n" in said


def command(small, tmp_path):
    from mae_jax.config import flatten

    path = tmp_path / "config.py"
    settings = {k: v for k, v in flatten(small.to_dict()).items() if v is not None}
    path.write_text(
        "from mae_jax.config import default_config\n"
        "def get_config():\n    c = default_config()\n"
        f"    c.update_from_flattened_dict({settings!r})\n    return c\n"
    )
    return ["pretrain", f"--config={path}", f"--workdir={tmp_path / 'run'}"]


def test_the_command_ends_with_3(small, tmp_path, capsys):
    assert cli.main(["mae-jax", *command(small, tmp_path)]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("mae-jax: ") and "records are broken, more than the 1" in last


def children(parent):
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout
    return [int(pid) for pid in found.split()]


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run_and_the_same_command_resumes(small, tmp_path):
    small.data.broken_share, small.data.workers, small.train.steps = 1.0, 2, 4000
    small.checkpoint.every_epochs = 2.0
    arguments = [sys.executable, "-m", "mae_jax.cli", *command(small, tmp_path)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 240
    saved = tmp_path / "run" / "checkpoints"
    while time.monotonic() < deadline and not list(saved.glob("[0-9]*")):
        time.sleep(0.1)
    (run,) = children(process.pid)  # the process itself only watches over it
    workers = [
        pid for pid in children(run)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]  # fmt: skip
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == WorkerDied.exit_code == 43
    assert "\nmae-jax: a data worker process has died" in err and "Traceback" not in err
    step = max(int(path.name) for path in saved.glob("[0-9]*"))
    small.train.steps = 4000
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=os.environ)
    for line in process.stderr:
        if "resuming at step" in line:
            assert int(line.split()[3]) == step
            break
    process.kill()
    process.wait(60)
    process.stderr.close()

"""Checkpoints without a manifest, and those that were set aside, are taken once they are read."""

import json
import os
import re
import shutil

import numpy as np
import pytest

from mae_jax import cli
from mae_jax.errors import UsageError
from mae_jax.train import loop, workdir
from mae_jax.train.checkpoints import checkpoint, manifest


@pytest.fixture(scope="module")
def made(new_digits_config, tmp_path_factory):
    """The work folder of a run, with checkpoints of steps 2 and 4, and its config."""
    folder, config = tmp_path_factory.mktemp("made") / "run", new_digits_config()
    config.log.eval_every_epochs = config.log.panel_every_epochs = 10
    config.model.depth, config.train.steps = 1, 4
    config.checkpoint.every_epochs, config.checkpoint.every_steps = None, 2
    loop.run(config, folder, quiet=True)
    return folder, config


def said(capsys, *arguments):
    code = cli.main(["mae-jax", "checkpoint", *map(str, arguments)])
    return code, capsys.readouterr()


def saved(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda path: path.stat().st_size)


def test_a_checkpoint_without_a_manifest_gets_one_and_is_verified_from_then_on(run, capsys):
    step = run / "checkpoints" / "4"
    (step / manifest.NAME).unlink()
    code, found = said(capsys, "adopt", run)
    assert code == 0
    assert re.search(r"checkpoints/4 is taken: a manifest was written, \d\d+ arrays", found.out)
    assert manifest.damage(step) is None
    assert checkpoint.read_model(str(run))["step"] == 4
    os.truncate(largest(step), 100)
    assert checkpoint.read_model(str(run))["step"] == 2


@pytest.mark.parametrize("name", ["4.damaged-1", "copy of 4"])
def test_one_that_was_set_aside_is_taken_back(made, run, capsys, name):
    (run / "checkpoints" / "4").rename(run / "checkpoints" / name)
    code, found = said(capsys, "adopt", run, f"--folder={name}")
    assert code == 0 and "checkpoints/4 is taken: whole by its manifest" in found.out
    assert saved(run) == ["2", "4"]
    loop.run(made[1], run, quiet=True)  # where it goes on, and has nothing to do
    assert saved(run) == ["2", "4"]


def test_a_damaged_manifest_is_written_anew_if_a_person_says_so(run, capsys):
    step = run / "checkpoints" / "4"
    os.truncate(step / manifest.NAME, 99)
    assert said(capsys, "adopt", run)[0] == 2  # it has one
    code, found = said(capsys, "adopt", run, "--step=4", "--json")
    assert code == 0 and json.loads(found.out)["adopted"][0]["verified"] is False
    assert manifest.damage(step) is None


def cut(path):
    os.truncate(largest(path), largest(path).stat().st_size // 2)


def cut_without_a_manifest(path):
    for file in path.rglob("d/*"):
        os.truncate(file, file.stat().st_size // 2)
    (path / manifest.NAME).unlink()


def lose_the_position(path):
    (path / "position" / "metadata").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (cut, r"its file \S+ has \d+ bytes of \d+"),
        (cut_without_a_manifest, ""),
        (lose_the_position, r"its position/metadata, which says the step, cannot be read"),
    ],
)
def test_what_is_damaged_is_refused_and_left(run, capsys, damage, why):
    aside = manifest.set_aside(run / "checkpoints" / "4", "damaged")
    damage(aside)
    before = {path: path.read_bytes() for path in aside.rglob("*") if path.is_file()}
    code, found = said(capsys, "adopt", run, "--folder=4.damaged-1")
    assert code == 4 and re.match(rf"mae-jax: \S+/4.damaged-1 cannot be adopted: {why}", found.err)
    assert before == {path: path.read_bytes() for path in aside.rglob("*") if path.is_file()}
    assert saved(run) == ["2", "4.damaged-1"]


def test_numbers_that_are_not_finite_are_refused(run, capsys, monkeypatch):
    (run / "checkpoints" / "4" / manifest.NAME).unlink()
    arrays = checkpoint.arrays

    def broken(*arguments):
        found = arrays(*arguments)
        found.model["params"]["encoder"]["cls_token"] = np.float32([np.nan])
        return found

    monkeypatch.setattr(checkpoint, "arrays", broken)
    code, found = said(capsys, "adopt", run)
    assert code == 4 and "4 cannot be adopted: it has numbers that are not finite" in found.err


def test_what_there_is_nothing_to_adopt_of(run, capsys):
    for arguments, message in (
        ([], r"all checkpoints in \S+ have a manifest; .*--folder=8\.damaged-1"),
        (["--step=4"], "has its manifest and is whole"),
        (["--step=7"], r"checkpoints/7' is no folder; in \S+ there are 2, 4"),
        (["--step=4", "--folder=x"], "not both"),
    ):
        code, found = said(capsys, "adopt", run, *arguments)
        assert code == 2 and re.search(message, found.err), found.err
    shutil.copytree(run / "checkpoints" / "4", run / "checkpoints" / "4.damaged-1")
    code, found = said(capsys, "adopt", run, "--folder=4.damaged-1")
    assert code == 2 and "is of step 4, and" in found.err and "move that away first" in found.err


def test_a_run_under_way_is_left_alone(run):
    from mae_jax.commands import checkpoint as verb

    (run / "checkpoints" / "4" / manifest.NAME).unlink()
    with (
        workdir.claim(run, workdir.read_config(run)),
        pytest.raises(UsageError, match="in use by another process"),
    ):
        verb.adopt(run)

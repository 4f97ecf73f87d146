"""Storage that falters: what may pass is tried again, and is no damage."""

import contextlib
import errno
import os
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mae_jax import cli, storage
from mae_jax.errors import NoSpace, NoUsableCheckpoint, StorageFaltered
from mae_jax.train import loop
from mae_jax.train.checkpoints import checkpoint, manifest


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(storage, "PAUSES", (0.0, 0.0))


@pytest.fixture(scope="module")
def made(new_digits_config, tmp_path_factory):
    """The work folder of a run, with checkpoints of steps 6 and 8, and its config."""
    folder, config = tmp_path_factory.mktemp("made") / "run", new_digits_config()
    config.log.eval_every_epochs = config.log.panel_every_epochs = 10
    config.model.depth = 1
    loop.run(config, folder, quiet=True)
    return folder, config


def saved(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def leaves(folder):
    model = checkpoint.read_model(str(folder))
    return model["step"], jax.tree.leaves(model["params"])


def assert_same(one, other):
    (step, a), (other_step, b) = leaves(one), leaves(other)
    assert step == other_step
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def failing(call, times, error=errno.EIO):
    """A call that fails so often before it does what it should; `failing.left` counts down."""

    def made(*arguments, **named):
        if made.left:
            made.left -= 1
            raise OSError(error, os.strerror(error))
        return call(*arguments, **named)

    made.left = times
    return made


@pytest.mark.parametrize(
    ("error", "passes", "full"),
    [
        (OSError(errno.EIO, "x"), True, False),
        (OSError(errno.ESTALE, "x"), True, False),
        (TimeoutError("Timed out while waiting for async_write_complete barrier."), True, False),
        (ValueError("UNAVAILABLE: Error writing 'a/b'"), True, False),
        (ValueError("INTERNAL: [OS error 5: EIO Input/output error]"), True, False),
        (ValueError("DATA_LOSS: Error decoding"), False, False),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False, False),
        (OSError(errno.EACCES, "Permission denied"), False, False),
        (OSError(errno.ENOSPC, "x"), False, True),
        (ValueError("... [OS error 28: ENOSPC No space left on device]"), False, True),
        (RuntimeError("a bug"), False, False),
    ],
)  # fmt: skip
def test_what_may_pass(error, passes, full):
    assert storage.may_pass(error) is passes and storage.is_full(error) is full
    outer = RuntimeError("the thread failed")
    outer.__cause__ = error
    assert storage.may_pass(outer) is passes and storage.is_full(outer) is full


def test_what_tensorstore_says_is_cut_where_its_settings_begin():
    said = "UNKNOWN: Failed to fsync file: Input/output error [tensorstore_spec='{}']"
    assert storage.one_line(ValueError(said)).endswith("Input/output error")


def test_what_falters_twice_is_read(run, monkeypatch, capsys):
    monkeypatch.setattr(manifest, "_checksums", failing(manifest._checksums, 2))
    assert manifest.damage(run / "checkpoints" / "8") is None
    assert (
        capsys.readouterr().err.count("/8 failed: [Errno 5] Input/output error; it is tried") == 2
    )


@pytest.mark.parametrize("call", ["_checksums", "_of_text"])
def test_a_checkpoint_that_does_not_answer_is_not_set_aside(made, run, monkeypatch, call):
    broken = failing(getattr(manifest, call), 10**6, errno.ESTALE)
    monkeypatch.setattr(manifest, call, broken)
    with pytest.raises(StorageFaltered, match=r"reading .*/8 failed 3 times: .* Stale file handle"):
        loop.run(made[1], run, quiet=True)
    with pytest.raises(StorageFaltered):
        checkpoint.read_model(str(run))
    assert saved(run) == ["6", "8"]
    monkeypatch.undo()
    assert_same(run, made[0])


def test_a_restore_that_falters_is_made_again(made, run, monkeypatch, capsys):
    restore = ocp.CheckpointManager.restore
    monkeypatch.setattr(ocp.CheckpointManager, "restore", failing(restore, 2))
    loop.run(made[1], run, quiet=True)
    assert capsys.readouterr().err.count("it is tried again") == 2
    monkeypatch.setattr(ocp.CheckpointManager, "restore", failing(restore, 10**6))
    monkeypatch.setattr(storage, "PAUSES", (0.0, 0.0))
    with pytest.raises(StorageFaltered, match="nothing that was saved is lost"):
        loop.run(made[1], run, quiet=True)
    assert saved(run) == ["6", "8"]


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(made, run, monkeypatch):
    monkeypatch.setattr(storage, "entries", failing(storage.entries, 10**6))
    with pytest.raises(StorageFaltered, match="listing .*/checkpoints failed 3 times"):
        loop.run(made[1], run, quiet=True)
    monkeypatch.undo()
    assert saved(run) == ["6", "8"]


def test_a_file_that_may_not_be_read_is_no_damage(run, monkeypatch):
    monkeypatch.setattr(manifest, "_checksums", failing(manifest._checksums, 9, errno.EACCES))
    with pytest.raises(NoUsableCheckpoint, match=r"/8 cannot be read: .*Permission denied"):
        checkpoint.read_model(str(run))


def in_the_background(monkeypatch, times):
    monkeypatch.setattr(manifest, "write", failing(manifest.write, times))


def at_once(monkeypatch, times):
    monkeypatch.setattr(ocp.CheckpointManager, "save", failing(ocp.CheckpointManager.save, times))


@pytest.mark.parametrize("fail", [in_the_background, at_once])
@pytest.mark.parametrize("first", [True, False])
def test_a_save_that_fails_is_made_again(made, tmp_path, monkeypatch, capsys, fail, first):
    if not first:  # the last one fails, and there is no step after it
        shutil.copytree(made[0], tmp_path / "run")
        shutil.rmtree(tmp_path / "run" / "checkpoints" / "8")
    fail(monkeypatch, 2)
    loop.run(made[1], tmp_path / "run", quiet=True)
    said = capsys.readouterr().err
    assert said.count("checkpoints failed: [Errno 5] Input/output error; it is tried again in") == 2
    assert_same(tmp_path / "run", made[0])
    assert all(name.isdigit() for name in saved(tmp_path / "run"))  # nothing half-written
    assert manifest.damage(tmp_path / "run" / "checkpoints" / "8") is None


@pytest.mark.parametrize("fail", [in_the_background, at_once])
def test_storage_that_does_not_come_back_ends_the_run(made, run, monkeypatch, capsys, fail):
    shutil.rmtree(run / "checkpoints" / "8")
    fail(monkeypatch, 10**6)
    with pytest.raises(StorageFaltered, match=r"saving to .* failed 3 times: .*nothing that was s"):
        loop.run(made[1], run, quiet=True)
    assert StorageFaltered.exit_code == 43
    assert saved(run)[0] == "6" and manifest.damage(run / "checkpoints" / "6") is None
    monkeypatch.undo()
    loop.run(made[1], run, quiet=True)
    assert saved(run) == ["6", "8"]
    assert_same(run, made[0])


def small_state(step):
    from mae_jax.train.state import TrainState

    one = jax.numpy.ones(3)
    return TrainState(jax.numpy.int32(step), {"a": one * step}, {}, {"b": one}, None)


def test_a_failed_save_does_not_stay_in_the_list_nor_keep_out_later_ones(tmp_path, monkeypatch):
    from mae_jax.train.checkpoints.saver import Saver

    with contextlib.closing(checkpoint.open_manager(tmp_path, keep=2)) as manager:
        saver = Saver(manager)
        saver.save(small_state(1), {}, {})
        saver.save(small_state(2), {}, {}, wait=True)
        in_the_background(monkeypatch, 1)
        saver.save(small_state(5), {}, {})
        while manager.failure is None:
            pass
        assert saver.is_due()
        assert list(manager.all_steps()) == manifest.steps(tmp_path) == [1, 2]
        saver.save(small_state(5), {}, {})  # of the same step, and then of the next
        assert not saver.is_due()
        saver.save(small_state(6), {}, {}, wait=True)
        assert list(manager.all_steps()) == manifest.steps(tmp_path) == [5, 6]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["5", "6"]


def test_a_disk_that_is_full_is_known_at_the_next_step(tmp_path, monkeypatch):
    from mae_jax.train.checkpoints.saver import Saver

    with contextlib.closing(checkpoint.open_manager(tmp_path, keep=2)) as manager:
        saver = Saver(manager)
        monkeypatch.setattr(manifest, "write", failing(manifest.write, 1, errno.ENOSPC))
        saver.save(small_state(1), {}, {})
        while manager.failure is None:
            pass
        with pytest.raises(NoSpace, match="no room for a checkpoint in .*; there is none yet"):
            saver.is_due()


def test_the_command_ends_with_the_code_that_starts_it_again(monkeypatch, capsys, run):
    monkeypatch.setattr(storage, "entries", failing(storage.entries, 10**6))
    assert cli.main(["mae-jax", "checkpoint", "list", str(run)]) == 43
    err = capsys.readouterr().err
    assert "mae-jax: listing" in err and "goes on once the storage answers" in err


@pytest.mark.parametrize(
    ("error", "becomes"),
    [(ValueError("codec is unknown"), NoUsableCheckpoint), (RuntimeError("it ran out"), None)],
)
def test_what_is_as_it_was_saved_and_cannot_be_read(made, run, monkeypatch, error, becomes):
    """Of storage or of its format: no other checkpoint is better. Of what computes: an error."""

    def fails(*arguments, **options):
        raise error

    monkeypatch.setattr(ocp.CheckpointManager, "restore", fails)
    shutil.rmtree(run / "checkpoints" / "8")
    with pytest.raises(becomes or type(error), match=str(error)):
        loop.run(made[1], run, quiet=True)
    assert saved(run) == ["6"]

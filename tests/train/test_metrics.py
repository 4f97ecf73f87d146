import contextlib
import resource
import shutil
import subprocess

import numpy as np
import pytest

from mae_jax.train import loop, metrics

PICTURE = np.zeros((8, 8, 3), np.uint8)


def steps(folder):
    return [line["step"] for line in metrics.read(folder)]


def write(writer, first, last):
    for step in range(first, last + 1):
        writer.write(step, {"loss": 1.0, "lr": 1e-3})


def said(capsys):
    return capsys.readouterr().err.splitlines()


def test_what_is_not_finite_is_null(tmp_path):
    writer = metrics.Metrics(tmp_path, tensorboard=False)
    writer.write(1, {"loss": float("nan")})
    writer.close()
    assert metrics.read(tmp_path) == [{"step": 1, "loss": None}]


def test_wherever_a_run_is_killed_no_step_lacks_and_none_is_there_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = metrics.Metrics(tmp_path, tensorboard=False)
    write(writer, 1, 2)
    writer.sync()
    saved = path.stat().st_size
    write(writer, 3, 4)
    whole = path.read_bytes()  # all of it, though nothing was closed
    for end in range(saved, len(whole) + 1):
        path.write_bytes(whole[:end])
        for _ in range(2):
            again = metrics.Metrics(tmp_path, tensorboard=False, resumed_at=2)
            write(again, 3, 4)
            assert steps(tmp_path) == [1, 2, 3, 4]
    assert path.read_bytes() == whole


def test_lines_that_are_no_measures_are_left_out(tmp_path):
    assert metrics.read(tmp_path) == []
    path = tmp_path / "metrics.jsonl"
    lines = [b'{"step": 1}', b"\xff\0", b"[" * 100_000, b'"step"', b'{"step": "2"}', b'{"step": 2}']
    path.write_bytes(b"\n".join(lines))
    assert steps(tmp_path) == [1, 2]
    write(metrics.Metrics(tmp_path, tensorboard=False, resumed_at=2), 3, 3)
    assert steps(tmp_path) == [1, 2, 3] and path.read_bytes().count(b"\n") == 3


@contextlib.contextmanager
def full_disk(folder):
    """A file system of three pages, most of which is taken."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=12k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        (folder / "other").write_bytes(bytes(8192))
        yield lambda: (folder / "other").unlink()
    finally:
        # What failed to write there may hold it for a while.
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def short_files(folder):
    """Files that may not be longer than some are, as under a quota."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("full", [full_disk, short_files])
def test_on_a_full_disk_lines_wait_for_room(tmp_path, capsys, full):
    with full(tmp_path) as make_room:
        writer = metrics.Metrics(tmp_path, tensorboard=False)
        write(writer, 1, 200)
        writer.sync()
        (line,) = said(capsys)
        assert "metrics.jsonl cannot be written: " in line and "the run goes on" in line
        whole = (tmp_path / "metrics.jsonl").read_bytes()
        assert len(whole) == 4096 and not whole.endswith(b"\n")
        make_room()
        write(writer, 201, 202)
        assert steps(tmp_path) == [*range(1, 203)]
        (line,) = said(capsys)
        assert line.endswith("metrics.jsonl can be written again, and nothing lacks")
        writer.close()
        assert not said(capsys)


def test_lines_that_found_no_room_are_counted_at_the_end(tmp_path, capsys):
    with short_files(tmp_path):
        writer = metrics.Metrics(tmp_path, tensorboard=False)
        write(writer, 1, 200)
        writer.close()
    assert said(capsys)[1:] == [
        f"{tmp_path / 'metrics.jsonl'} lacks its last {200 - len(steps(tmp_path))} lines"
    ]


def test_what_cannot_be_dropped_at_once_is_dropped_later(tmp_path, capsys):
    write(metrics.Metrics(tmp_path, tensorboard=False), 1, 4)
    (tmp_path / "metrics.tmp").mkdir()  # in the way
    writer = metrics.Metrics(tmp_path, tensorboard=False, resumed_at=2)
    write(writer, 3, 3)
    assert steps(tmp_path) == [1, 2, 3, 4] and len(said(capsys)) == 1
    (tmp_path / "metrics.tmp").rmdir()
    write(writer, 4, 4)
    assert steps(tmp_path) == [1, 2, 3, 4]


def test_a_tensorboard_writer_that_fails_is_left_out(tmp_path, capsys):
    (tmp_path / "tensorboard").write_text("in the way")
    writer = metrics.Metrics(tmp_path, tensorboard=True)
    write(writer, 1, 3)
    writer.write_image(3, "panel", PICTURE)
    writer.close()
    (line,) = said(capsys)
    assert line.startswith("TensorBoard files are no longer written, and the run goes on: ")
    assert "Not a directory" in line and steps(tmp_path) == [1, 2, 3]


def test_tensorboard_files_on_a_full_disk_end_no_run(tmp_path, capsys):
    folder = tmp_path / "run"
    (folder / "tensorboard").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with full_disk(folder / "tensorboard"):
        writer = metrics.Metrics(folder, tensorboard=True)
        for step in range(1, 21):
            writer.write_image(step, "panel", noise)
            write(writer, step, step)
        writer.close()
    (line,) = said(capsys)
    assert "TensorBoard files are no longer written" in line and "No space left on" in line
    assert steps(folder) == [*range(1, 21)]


def test_a_run_ends_well_where_nothing_can_be_written_about_it(digits_config, tmp_path, capsys):
    digits_config.train.steps = 3
    loop.run(digits_config, tmp_path, quiet=True)
    shutil.rmtree(tmp_path / "panels")
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    for name in ("tensorboard", "panels"):
        (tmp_path / name).write_text("in the way")
    digits_config.log.tensorboard, digits_config.train.steps = True, 8
    said(capsys)
    summary = loop.run(digits_config, tmp_path, quiet=True)
    assert summary["checkpoint"].endswith("/8") and summary["panel"] is None
    lines = said(capsys)
    for what, count in (
        ("TensorBoard files are no longer written", 1),
        ("metrics.jsonl cannot be written: Is a directory", 1),
        ("metrics.jsonl lacks its last 8 lines", 1),
        (".png cannot be written: File exists", 3),  # that of step 3 is gone, and so made up
    ):
        assert sum(what in line for line in lines) == count, (what, lines)

"""Pieces of batches on their way from worker processes, through shared memory."""

import dataclasses
import errno
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mae_jax.data import loader, ring, sources, workers
from mae_jax.errors import UsageError, WorkerDied
from mae_jax.pixels import Pixels

PICTURE = loader.Picture(Pixels((8, 8), 3, crop=1.0), (0.3, 1.0), (3 / 4, 4 / 3), True)
SHARED = Path("/dev/shm")
linux = pytest.mark.skipif(not SHARED.is_dir(), reason="shared memory has no folder here")


def batches(count=30, channels=3, floats=False, **changes):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 12, 12, channels), np.uint8)
    if floats:
        pixels = rng.normal(size=pixels.shape).astype(np.float32)
    source = sources.ArraySource(pixels, np.arange(count), [str(i) for i in range(count)])
    given = Pixels((8, 8), channels, crop=1.0)
    if floats:
        given = Pixels((8, 8), channels, "float32", mean=(0.0,), std=(1.0,), crop=1.0)
    picture = dataclasses.replace(PICTURE, pixels=given)
    return loader.TrainBatches(source, picture, **(dict(batch_size=8, seed=0, steps=20) | changes))


def check(expected, got):
    for a, b in zip(expected, got, strict=True):
        for name in ("image", "label"):
            np.testing.assert_array_equal(a[name], b[name])
            assert a[name].dtype == b[name].dtype


def segments(process=None):
    return list(SHARED.glob(f"mae_jax-{process or os.getpid()}-*"))


def children(parent):
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True).stdout
    pids = [int(pid) for pid in found.split()]
    return [p for p in pids if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_nothing_is_overwritten_before_it_was_read(slots):
    pieces, first, writers = 60, 7, 3
    like = {"image": np.empty((2, 5, 3), np.float32), "label": np.empty(2, np.int32)}
    read = ring.Ring(like, slots, first)
    ready = [threading.Event() for _ in range(first + pieces)]
    most = []

    def write(attached, which):
        for piece in range(first + which, first + pieces, writers):
            attached.wait(piece)
            most.append(piece)
            slot = attached.slot(piece)
            slot["image"][:], slot["label"][:] = piece, -piece
            ready[piece].set()

    for which in range(writers):
        attached = pickle.loads(pickle.dumps(read))
        threading.Thread(target=write, args=(attached, which), daemon=True).start()
    rng = np.random.default_rng(0)
    for piece in range(first, first + pieces):
        assert ready[piece].wait(20)
        time.sleep(rng.choice([0, 0.004]))
        assert max(most) < piece + slots
        slot = read.slot(piece)
        assert {name: values.shape for name, values in slot.items()} == {
            "image": (2, 5, 3),
            "label": (2,),
        }
        assert (slot["image"] == piece).all() and (slot["label"] == -piece).all()
        del slot
        read.release(piece)


def test_whoever_waits_when_reading_ends_goes_on():
    made = ring.Ring({"label": np.empty(1)}, 1, 0)
    waiting = threading.Thread(target=made.wait, args=(9,), daemon=True)
    waiting.start()
    time.sleep(0.01)
    assert waiting.is_alive()
    made.end()
    waiting.join(20)
    assert not waiting.is_alive()


@linux
def test_a_ring_leaves_nothing():
    made = ring.Ring({"label": np.empty(1)}, 1, 0)
    assert segments()
    made.unlink()
    made.unlink()
    assert not segments()
    made = ring.Ring({"label": np.empty(1)}, 1, 0)
    del made
    assert not segments()


@linux
def test_too_little_shared_memory_is_said_at_the_start(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ring.os, "posix_fallocate", full)
    with pytest.raises(UsageError, match=r"1 MiB of shared memory .*No space left.*--shm-size"):
        ring.Ring({"image": np.empty(2**20, np.uint8)}, 1, 0)
    assert not segments()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        dict(floats=True, channels=5, batch_size=37),
        dict(floats=True, batch_size=70, rows=range(3, 69, 2), repeats=3),
        dict(batch_size=33, steps=1),
    ],
)
def test_processes_change_nothing(changes):
    made = batches(**changes)
    check(list(made.iterate(0, 0)), list(made.iterate(0, 2)))
    assert not segments() and not children(os.getpid())


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, None])
def test_a_slow_reader_and_little_room(monkeypatch, slots):
    monkeypatch.setattr(workers, "_ROWS", 3)
    if slots:
        monkeypatch.setattr(workers, "Ring", lambda like, _, first: ring.Ring(like, slots, first))
    made = batches(steps=30)
    got = []
    for batch in made.iterate(4, 2):
        got.append(batch)
        time.sleep(0.02 if len(got) < 20 else 0)
    check([made[step] for step in range(4, 30)], got)


@pytest.mark.slow
def test_several_at_once_abandoned_half_way():
    one, other = batches(), batches(floats=True, seed=1)
    first, second, never = one.iterate(0, 1), other.iterate(3, 2), one.iterate(0, 2)
    for step in range(4):
        check([one[step], other[3 + step]], [next(first), next(second)])
    first.close()
    check([other[7]], [next(second)])
    del second, never
    assert not segments() and not children(os.getpid())


@pytest.mark.slow
def test_a_killed_worker_ends_it_and_one_that_is_told_to_stop_does_not():
    made = batches(steps=10**6).iterate(0, 2)
    next(made)
    while segments():  # until all have begun, and with that left signals to this process
        next(made)
    for child in children(os.getpid()):
        for number in (signal.SIGTERM, signal.SIGINT):  # as when all of a run are told to stop
            os.kill(child, number)
    for _ in range(50):
        next(made)
    os.kill(children(os.getpid())[1], signal.SIGKILL)
    with pytest.raises(WorkerDied):
        for _ in made:
            pass
    assert not segments() and not children(os.getpid())


PROGRAM = """
    import sys
    import numpy as np
    from mae_jax.data import loader, sources
    from mae_jax.pixels import Pixels

    if __name__ == "__main__":
        picture = loader.Picture(Pixels((8, 8), 3, crop=1.0), (0.3, 1.0), (3 / 4, 4 / 3), True)
        pixels = np.zeros((40, 12, 12, 3), np.uint8)
        source = sources.ArraySource(pixels, np.arange(40), [str(i) for i in range(40)])
        made = loader.TrainBatches(source, picture, batch_size=64, seed=0, steps=10**6)
        made = made.iterate(0, 2)
        for _ in range(int(sys.argv[1])):
            next(made)
        print("made", flush=True)
        if sys.argv[2] == "wait":
            sys.stdin.read()
        if sys.argv[2] == "raise":
            raise KeyError
"""


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "how"),
    [(1, "end"), (5, "end"), (5, "raise"), (1, signal.SIGTERM), (5, signal.SIGKILL)],
)
def test_however_the_reader_ends_nothing_is_left(tmp_path, count, how):
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    killed = isinstance(how, signal.Signals)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", str(count), "wait" if killed else how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "made\n"
    started = children(process.pid)
    if killed:
        process.send_signal(how)
    _, err = process.communicate(timeout=60)  # which waits for all that may write there
    assert not segments(process.pid)
    assert not any(b"spawn_main" in command(pid) for pid in started)
    if killed:
        assert process.returncode == -how and "shared_memory" not in err
    else:
        assert err == "" if how == "end" else err.endswith("\nKeyError\n")
        assert process.returncode == (how == "raise") and "Exception ignored" not in err


def command(pid):
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_bytes() if path.exists() else b""

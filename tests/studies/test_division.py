"""Trials divided between processes, with trials that take next to no time."""

import collections
import errno
import fcntl
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mae_jax.errors import UsageError
from mae_jax.studies import claims, division, study

VALUES = [0.5, 0.75, 0.25, 1.0, 0.125, 0.375]


def made(count=6, seconds=0.0, worker="", log=None):
    """Trials that note who begins them; in every second row, a draw of one diverged."""

    def trial(number):
        def kept(where):
            path = where / "kept.json"
            return json.loads(path.read_text()) if path.is_file() else None

        def measure(where):
            if log:
                with log.open("a") as file:
                    file.write(f"{worker} {number}\n")
            time.sleep(seconds)
            found = {"accuracy": VALUES[number % 6]} if number % 4 < 3 else {"diverged": "nan"}
            study.write(where / "kept.json", json.dumps({"a": found, "b": {"loss": number / 3}}))
            return kept(where)

        row = {"x": number // 2}
        return study.Trial(row, number % 2, f"{number}", measure, columns=True, kept=kept)

    return [trial(number) for number in range(count)]


def run(folder, trials, **options):
    turns = division.Division(trials, folder, **options)
    return turns, study.run(turns, len(trials), folder)


def table(folder):
    return (folder / study.JSON).read_bytes()


@pytest.fixture
def whole(tmp_path):
    """The table of one process alone."""
    run(tmp_path / "alone", made(12))
    return table(tmp_path / "alone")


def test_what_was_measured_is_kept_and_does_not_spoil_the_eta(tmp_path, monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    trials = made()
    for trial in trials[:3]:
        trial.measure(tmp_path / trial.name)
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + 10))
    run(tmp_path, trials)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "3 of 6 trials were measured before"
    assert lines[1] == "4 of 6  3  a diverged: nan  b 1.0000  eta 0:00:20"
    assert lines[3] == "6 of 6  5  a 37.5%  b 1.6667"
    before = table(tmp_path)
    assert [r["x"] for r in json.loads(before)] == [0, 1, 2]
    _, rows = run(tmp_path, made())
    assert table(tmp_path) == before == (json.dumps(rows, indent=1) + "\n").encode()


def test_a_strict_share_leaves_the_rest(tmp_path, whole):
    log = tmp_path / "log"
    turns, _ = run(tmp_path / "s", made(12, log=log), index=1, of=3)
    assert [int(line.split()[-1]) for line in log.read_text().splitlines()] == [1, 4, 7, 10]
    assert len(turns.missing) == 8
    for index in (0, 2):
        turns, _ = run(tmp_path / "s", made(12), index=index, of=3)
    assert not turns.missing and table(tmp_path / "s") == whole
    for index, of in ((3, 3), (-1, 2), (0, 0), (None, 2), (1, None)):
        with pytest.raises(UsageError, match="--index"):
            division.Division([], tmp_path, index=index, of=of)


def test_what_another_is_at_is_waited_for_or_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(division, "LOOK", 0.2)
    trials = made()
    with claims.claim(tmp_path / "2" / division.CLAIM) as ours:
        assert ours
        turns, rows = run(tmp_path, trials, wait=False)
        assert [trial.name for trial in turns.missing] == ["2"] and len(rows) == 3
        assert "not waited for: 2 (" in capsys.readouterr().err

    def another():
        with claims.claim(tmp_path / "2" / division.CLAIM):
            held.set()
            time.sleep(0.6)
            trials[2].measure(tmp_path / "2")

    held, thread = threading.Event(), threading.Thread(target=another)
    thread.start()
    held.wait()
    turns, _ = run(tmp_path, trials)
    thread.join()
    assert not turns.missing and "waiting for what others are at: 2 (" in capsys.readouterr().err


def test_what_ends_between_look_and_claim_is_not_measured_again(tmp_path, monkeypatch):
    log = tmp_path / "log"
    claim = claims.claim

    def late(path):  # another worker ends the trial just before
        trials[int(path.parent.name)].measure(path.parent)
        return claim(path)

    monkeypatch.setattr(claims, "claim", late)
    trials = made(log=log)
    run(tmp_path / "s", trials)
    assert sorted(log.read_text().split()) == [str(n) for n in range(6)]


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOLCK])
def test_without_locks_only_strict_shares_divide(tmp_path, monkeypatch, code):
    def flock(handle, how):
        raise OSError(code, "no")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UsageError, match="has no locks to divide runs by .* --index=I --of=N"):
        division.Division(made(), tmp_path)
    run(tmp_path, made(), index=0, of=1)
    assert len(json.loads(table(tmp_path))) == 3


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("b {} fuse.gcsfuse rw 0 0", False), ("h:/a {} nfs4 rw,local_lock=none 0 0", True),
        ("h:/a {} nfs rw,nolock,local_lock=all 0 0", False),
        ("mountpoint-s3 {} fuse rw 0 0", False), ("/dev/a {} ext4 rw 0 0", True),
    ],
)  # fmt: skip
def test_locks_that_other_machines_do_not_see_are_none(tmp_path, monkeypatch, line, seen):
    mounts = "/dev/a / ext4 rw 0 0\n" + line.format(tmp_path) + "\n"
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda p, **k: mounts if str(p) == "/proc/self/mounts" else read(p, **k)
    )
    assert division.locked(tmp_path / "s", divided=True) == seen


_WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_division as t
where, worker, log = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
t.run(where, t.made(12, seconds=0.25, worker=worker, log=log))
"""


def test_three_processes_divide_what_they_reach_by_two_paths_and_one_is_killed(tmp_path, whole):
    folder, other, log = tmp_path / "s", tmp_path / "elsewhere" / "link", tmp_path / "log"
    other.parent.mkdir()
    other.symlink_to(folder, target_is_directory=True)
    script = _WORKER.format(tests=str(Path(__file__).parent))
    folder.mkdir()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(where), name, str(log)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name, where in (("first", folder), ("second", other), ("killed", folder))
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    while "killed" not in (log.read_text() if log.exists() else ""):
        time.sleep(0.02)
    workers[2].kill()
    errors = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, -9], errors
    assert table(folder) == whole
    begun = [line.split() for line in log.read_text().splitlines()]
    times = collections.Counter(number for _, number in begun)
    assert set(times) == {str(n) for n in range(12)} and {who for who, _ in begun} == {
        "first", "second", "killed",
    }  # fmt: skip
    again = [number for number, count in times.items() if count > 1]
    assert set(again) <= {n for who, n in begun if who == "killed"} and len(again) <= 1

"""Trackers are told what metrics.jsonl has, each step once, and never end a run or delay it."""

import json
import math
import multiprocessing
import os
import random
import runpy
import signal
import threading
import time
from pathlib import Path

import pytest

from mae_jax import hosts
from mae_jax.errors import Diverged, Preempted, UsageError
from mae_jax.studies import study
from mae_jax.train import loop, metrics, task, trackers
from mae_jax.train.trackers import libraries, sender, senders
from mae_jax.train.trackers.feed import Feed

STEPS = 120  # of the run that is killed

# A tracker that keeps what it is told in a file, a line for everything.
JOURNAL = """
import json, os, threading, time
from pathlib import Path
from mae_jax.train.checkpoints import manifest
from mae_jax.train.trackers.tracker import Tracker

fails, holds, slow = set(), threading.Event(), 0.0

class Library(Tracker):
    needs = "json"

    def connect(self, told):
        self.told, self.path = told, Path(os.environ["JOURNAL"])
        if "connect" in fails:
            raise OSError("no route\\nto host")
        lines = self.path.read_bytes().split(b"\\n")[:-1] if self.path.exists() else []
        self.path.write_bytes(b"".join(line + b"\\n" for line in lines))
        self.last = max([json.loads(line).get("step", 0) for line in lines], default=0)
        self.write(id=told.id, name=told.name, group=told.group, config=len(told.config))
        self.place = "here"
        return self.last

    def write(self, **line):
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\\n")

    def send(self, entries):
        while holds.is_set():
            time.sleep(0.01)
        for entry in entries:
            if "send" in fails and entry.step > 5:
                raise RuntimeError("gone")
            if entry.step > self.last:
                whole = manifest.steps(self.told.folder / "checkpoints")
                panel = entry.panel and entry.panel.name
                self.write(step=entry.step, numbers=entry.numbers, panel=panel, whole=whole[-1])
                self.last = entry.step
                time.sleep(slow)

    def send_encoder(self, folder, step):
        self.write(encoder=sorted(path.name for path in folder.iterdir()), at=step)

    def close(self, end, reason):
        self.write(end=end, reason=reason)
"""


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """Makes the tracker known; gives its module."""
    from mae_jax.train.trackers.libraries import journal

    for name in ("fails", "holds"):
        getattr(journal, name).clear()
    monkeypatch.setenv("JOURNAL", str(tmp_path / "journal.jsonl"))
    monkeypatch.setattr(sender, "LOOK", 0.01)
    return journal


@pytest.fixture(autouse=True, scope="module")
def _known(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libraries")
    (folder / "journal.py").write_text(JOURNAL)
    (folder / "absent.py").write_text("class Library:\n    needs = 'no_such_package'\n")
    libraries.__path__.append(str(folder))
    yield folder
    libraries.__path__.remove(str(folder))


@pytest.fixture
def config(digits_config):
    digits_config.log.trackers = ("journal",)
    return digits_config


def kept(folder):
    path = folder / "journal.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # the last may be torn
    return [json.loads(line) for line in lines]


def told(folder):
    """Of each step, in the order it was told."""
    return [line for line in kept(folder) if "step" in line]


def wanted(run):
    """Of each step all that metrics.jsonl and panels/ have."""
    steps = {}
    for line in metrics.read(run):
        steps.setdefault(line.pop("step"), {}).update(line)
    panels = {int(path.stem.removeprefix("step_")): path.name for path in run.glob("panels/*.png")}
    return [(s, steps.get(s, {}), panels.get(s)) for s in sorted(steps.keys() | panels.keys())]


def check_equal(folder, run):
    assert [(one["step"], one["numbers"], one["panel"]) for one in told(folder)] == wanted(run)


def said(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if "journal" in line]


def test_a_tracker_gets_every_step_once_a_checkpoint_holds_it(config, journal, tmp_path, capsys):
    config.log.every_steps = 2  # so that a panel lies between lines
    loop.run(config, tmp_path / "run", quiet=True)
    check_equal(tmp_path, tmp_path / "run")
    assert [one["step"] for one in told(tmp_path)] == [2, 3, 4, 6, 8]
    assert all(one["step"] <= one["whole"] for one in told(tmp_path))
    first, last = kept(tmp_path)[0], kept(tmp_path)[-1]
    assert first["name"] == "run" and first["group"] is None and first["config"] > 80
    assert last == {"end": "finished", "reason": ""}
    assert not said(capsys)
    loop.run(config, tmp_path / "run", quiet=True)  # nothing is left to do, nor to be sent
    check_equal(tmp_path, tmp_path / "run")


def test_where_it_is_told_is_said(config, journal, tmp_path, capsys):
    loop.run(config, tmp_path / "run")
    assert said(capsys) == ["journal: here"]


def test_a_tracker_that_comes_later_gets_all_of_it(config, journal, tmp_path):
    config.log.trackers, config.train.steps = (), 3
    loop.run(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / trackers.FILE).exists()
    config.log.trackers, config.train.steps = ("journal",), 8
    loop.run(config, tmp_path / "run", quiet=True)
    check_equal(tmp_path, tmp_path / "run")


def trains(libraries_folder, journal, run, tfds_dir, grown):
    """A start in a process of its own, killed soon after its files have so many bytes more."""
    os.environ |= {"JOURNAL": str(journal), "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    libraries.__path__.append(str(libraries_folder))
    from mae_jax.train.trackers.libraries import journal as module

    module.slow, sender.LOOK = 0.002, 0.01
    small = runpy.run_path(Path(__file__).parents[1] / "conftest.py")["small_config"]
    config = small(tfds_dir)
    config.log.trackers, config.train.steps, config.log.knn = ("journal",), STEPS, False
    config.model.depth = 1

    def size():
        return sum(p.stat().st_size for p in (journal, run / "metrics.jsonl") if p.exists())

    def kill():
        before = size()
        while size() < before + grown:
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.05))
        os.kill(os.getpid(), signal.SIGKILL)

    if grown is not None:
        threading.Thread(target=kill, daemon=True).start()
    loop.run(config, run, quiet=True)


@pytest.mark.slow
def test_however_often_it_is_killed_each_step_is_told_once(_known, tfds_dir, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mae_jax.train.loop", "tensorflow_datasets"])
    journal, run, rng = tmp_path / "journal.jsonl", tmp_path / "run", random.Random(0)
    reached, kills = [], int(os.environ.get("MAE_JAX_KILLS", 4))
    for start in range(kills + 1):
        grown = rng.randrange(2500) if start < kills else None
        child = context.Process(target=trains, args=(_known, journal, run, tfds_dir, grown))
        child.start()
        child.join()
        assert child.exitcode == (0 if grown is None else -signal.SIGKILL)
        reached.append(max((one["step"] for one in told(tmp_path)), default=0))
    assert len({*reached}) > kills // 2  # or it was not killed amid
    check_equal(tmp_path, run)
    assert [one["step"] for one in told(tmp_path)] == [*range(1, STEPS + 1)]
    assert len({line["id"] for line in kept(tmp_path) if "id" in line}) == 1


def test_what_was_left_out_when_told_to_stop_is_told_with_its_step(config, journal, tmp_path):
    config.log.eval_every_epochs = 0.01  # after every step

    def stop(step, measures):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted):
        loop.run(config, tmp_path / "run", quiet=True, measured=stop)
    ended = kept(tmp_path)[-1]
    assert ended["end"] == "stopped" and "stopped at step 4 of 8" in ended["reason"]
    assert [one["step"] for one in told(tmp_path)] == [1, 2, 3]
    loop.run(config, tmp_path / "run", quiet=True)
    check_equal(tmp_path, tmp_path / "run")
    assert {"loss", "eval_loss"} <= told(tmp_path)[3]["numbers"].keys()


def test_a_run_that_diverges_says_so(config, journal, tmp_path):
    config.train.base_lr, config.train.max_skipped = 1e30, 0
    config.train.warmup_epochs = 0
    with pytest.raises(Diverged):
        loop.run(config, tmp_path / "run", quiet=True)
    ended = kept(tmp_path)[-1]
    assert ended["end"] == "failed" and ended["reason"].startswith("Diverged: ")


@pytest.mark.parametrize("what", ["connect", "send"])
def test_a_tracker_that_fails_is_a_line_and_gets_all_of_it_later(
    config, journal, tmp_path, capsys, what
):
    journal.fails.add(what)
    summary = loop.run(config, tmp_path / "run", quiet=True)
    assert summary["checkpoint"].endswith("/8")
    (line,) = said(capsys)
    reason = {"connect": "no route to host", "send": "gone"}[what]
    assert line.startswith(f"journal cannot be told of the run, which goes on: {reason}; ")
    journal.fails.clear()
    loop.run(config, tmp_path / "run", quiet=True)
    check_equal(tmp_path, tmp_path / "run")
    assert not said(capsys)


def test_a_tracker_that_answers_again_gets_all_of_it(config, journal, tmp_path, capsys):
    journal.fails.add("connect")

    def back(step, measures):
        if step == 6:
            journal.fails.clear()

    loop.run(config, tmp_path / "run", quiet=True, measured=back)
    check_equal(tmp_path, tmp_path / "run")
    assert said(capsys)[1:] == ["journal is told again, and lacks nothing"]


def test_a_tracker_that_hangs_delays_nothing_for_long(
    config, journal, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(senders, "PATIENCE", 0.1)
    journal.holds.set()
    steps = []
    loop.run(config, tmp_path / "run", quiet=True, measured=lambda step, _: steps.append(step))
    assert steps == [3, 6, 8] and not told(tmp_path)
    assert said(capsys) == ["journal still lacks something; the same command sends it"]
    journal.holds.clear()


def test_only_the_first_process_tells(config, journal, tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "is_first", lambda: False)
    loop.run(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "journal.jsonl").exists()
    assert not (tmp_path / "run" / trackers.FILE).exists()


def test_a_run_that_went_back_behind_what_was_told_says_so(config, journal, tmp_path, capsys):
    run = tmp_path / "run"
    loop.run(config, run, quiet=True)
    before = told(tmp_path)
    next(path for path in (run / "checkpoints/8").rglob("*") if path.is_file()).unlink()
    config.log.every_steps = 3
    loop.run(config, run, quiet=True)
    lines = said(capsys)
    assert lines[-1].startswith("journal has steps up to 8 from before this run went back to step ")
    assert told(tmp_path) == before


def test_runs_of_a_study_are_named_and_grouped(config, journal, tmp_path):
    def measure(folder):
        loop.run(config, folder / "pretrain", quiet=True)
        return {"loss": 1.0}

    trial = study.Trial({}, 0, "mask_ratio=0.75/seed=0", measure)
    study.measured(trial, tmp_path / "ratios")
    (first,) = [line for line in kept(tmp_path) if "id" in line]
    assert first["name"] == "mask_ratio=0.75/seed=0/pretrain" and first["group"] == "ratios"
    # The name is the run's own, whoever goes on with it.
    loop.run(config, tmp_path / "ratios" / trial.name / "pretrain", quiet=True)
    assert [line for line in kept(tmp_path) if "id" in line] == [first, first]


def test_a_run_in_the_place_of_another_is_another(config, journal, tmp_path):
    config.train.base_lr, config.train.max_skipped = 1e30, 0
    config.train.warmup_epochs, config.checkpoint.every_epochs = 0, 100.0
    for seed in range(2):
        config.seed = seed
        with pytest.raises(Diverged):
            loop.run(config, tmp_path / "run", quiet=True)
    assert len({line["id"] for line in kept(tmp_path) if "id" in line}) == 2


@pytest.mark.slow
def test_the_encoder_is_given_at_the_end(config, journal, tmp_path):
    config.log.track_encoder = True
    loop.run(config, tmp_path / "run", quiet=True)
    (line,) = [line for line in kept(tmp_path) if "encoder" in line]
    assert line == {"encoder": ["README.md", "SHA256SUMS", "model.safetensors"], "at": 8}


@pytest.mark.parametrize(
    "names, encoder, sentence",
    [
        (
            ("jornal",),
            False,
            "log.trackers names 'jornal'; known are absent, journal, mlflow, wandb",
        ),
        (("absent",), False, "'absent', which is not installed: pip install 'mae_jax[absent]'"),
        (("journal", "journal"), False, "names one of them twice"),
        ((), True, "log.track_encoder gives trackers the encoder, and log.trackers is empty"),
        ((3,), False, "config key log.trackers is (3,)"),
    ],
)
def test_a_mistake_is_found_before_anything_starts(config, names, encoder, sentence):
    config.log.trackers, config.log.track_encoder = names, encoder
    with pytest.raises(UsageError) as error:
        task.prepare(config, 1)
    assert sentence in str(error.value)


def test_every_tracker_is_an_extra_and_named_in_help():
    top = Path(__file__).parents[2]
    from mae_jax.config import describe

    for name in ("mlflow", "wandb"):
        assert name in senders.known()
        assert f'"{name}": ' in (top / "setup.py").read_text()
        assert name in describe().partition("--config.log.trackers")[2][:200]


def test_a_feed_reads_what_settled_and_no_more(tmp_path):
    path = tmp_path / "metrics.jsonl"
    feed = Feed(tmp_path)
    assert not list(feed.until(5))
    path.write_text('{"step": 1, "loss": null}\n{"step": 2, "loss": 1.0}\n{"step": 2, "eval": 2')
    (one,) = feed.until(1)
    assert one.step == 1 and math.isnan(one.numbers["loss"])
    assert [(e.step, e.numbers) for e in feed.until(2)] == [(2, {"loss": 1.0})]
    with path.open("a") as file:
        file.write('.0}\n{"step": 3}\n')
    assert [(e.step, e.numbers) for e in feed.until(2)] == [(2, {"eval": 2.0})]
    assert [e.step for e in feed.until(9)] == [3]

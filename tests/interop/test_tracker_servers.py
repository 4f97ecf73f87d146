"""MLflow's and W&B's own clients, with what they wrote read back."""

import json
import math
import multiprocessing
import os
import random
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
import wandb
from PIL import Image
from sklearn.datasets import load_digits
from wandb_server import serving

from mae_jax.train import loop, metrics, telling, trackers
from mae_jax.train.trackers import senders, wandb_files
from mae_jax.train.trackers.libraries.mlflow import Library as Mlflow
from mae_jax.train.trackers.libraries.wandb import Library as Wandb
from mae_jax.train.trackers.tracker import Entry, Told

# After how many measures each is killed, 0 for while it starts. W&B writes its file every 15
# seconds, that is after 38.
LOOKS = (6, 0, 45, 2, 15, 0, 6, 45, 2, 15)
KILLS = int(os.environ.get("MAE_JAX_KILLS", 3))  # ten at most
STEPS = 60 * (KILLS + 1)

# Its handlers, its store and its REST interface, served by Werkzeug.
SERVER = """
import sys
from mlflow.server import app
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("HOME", str(tmp_path))  # no key of anybody's
    # One device in the processes that are killed: eight take all their time from W&B and MLflow.
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    monkeypatch.chdir(tmp_path)  # where MLflow keeps files, if nothing else is said
    yield
    wandb.teardown()  # which has read the environment


@pytest.fixture(params=["database", "server"])
def where(request, tmp_path, monkeypatch):
    """Has MLflow write to a database, or to a server."""
    if request.param == "database":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
        yield
        return
    settings = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{tmp_path / 'server.db'}",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(tmp_path / "artifacts"),
    }
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        port = int(process.stdout.readline())
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        yield
        process.kill()


@pytest.fixture
def online(monkeypatch):
    """A server for W&B."""
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        yield server


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder of digits, since without TensorFlow no tfds data set is prepared."""
    root = tmp_path_factory.mktemp("digits")
    found = load_digits()
    for index, (image, label) in enumerate(zip(found.images[:113], found.target, strict=False)):
        folder = root / ("train" if index < 100 else "test") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(folder / f"{index}.png")
    return root


@pytest.fixture
def config(digits):
    return small_config(digits)


def small_config(digits):
    config = runpy.run_path(Path(__file__).parents[1] / "conftest.py")["small_config"](None)
    config.data.name, config.data.folder = None, str(digits)
    config.data.split, config.data.eval_split = "train", "test"
    return config


def told(folder):
    return Told(folder, "abcdef012345", "name", "study", {"a.b": 1, "sides": (2, 2)})


def entries(folder, *steps):
    panel = folder / "panels" / "step_00000002.png"
    panel.parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(panel)
    return [
        Entry(step, {"loss": 1 / step, "odd": math.nan}, panel if step == 2 else None)
        for step in steps
    ]


def in_mlflow(id):
    """The run of an id in MLflow, and the history of each number."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("mae_jax")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`mae_jax.id` = '{id}'")
    names = run.data.metrics
    return run, {name: client.get_metric_history(run.info.run_id, name) for name in names}


def files(run, folder=None):
    return [file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id, folder)]


def test_mlflow_has_each_number_once(where, tmp_path):
    for start in range(3):
        library = Mlflow()
        assert library.connect(told(tmp_path)) == (0, 4, 6)[start]
        library.send(entries(tmp_path, *range(1, (5, 7, 7)[start])))
        library.close("stopped", "why")
    run, history = in_mlflow("abcdef012345")
    assert [(m.step, m.value) for m in history["loss"]] == [(s, 1 / s) for s in range(1, 7)]
    assert [m.step for m in history["odd"]] == [*range(1, 7)]
    assert all(math.isnan(m.value) for m in history["odd"])
    assert files(run, "panels") == ["panels/step_00000002.png"]
    assert run.info.run_name == "name" and run.data.tags["study"] == "study"
    assert run.info.status == "KILLED" and run.data.tags["mae_jax.ended"] == "why"
    assert run.data.params == {"a.b": "1", "sides": "(2, 2)"}


def test_mlflow_fills_what_a_kill_left_out(where, tmp_path):
    library = Mlflow()
    library.connect(told(tmp_path))
    library.send([Entry(1, {"loss": 1.0}), Entry(2, {})])
    library = Mlflow()  # whose panel and number of step 2 were not sent
    assert library.connect(told(tmp_path)) == 1
    library.send(entries(tmp_path, 1, 2))
    run, history = in_mlflow("abcdef012345")
    assert [m.step for m in history["loss"]] == [1, 2] and files(run, "panels")
    assert [m.step for m in history["odd"]] == [1, 2]


def test_mlflow_shows_keys_that_were_changed(where, tmp_path):
    Mlflow().connect(told(tmp_path))
    changed = Told(tmp_path, "abcdef012345", "name", None, {"a.b": 2, "sides": (2, 2), "new": "x"})
    Mlflow().connect(changed)
    run, _ = in_mlflow("abcdef012345")
    assert run.data.params == {"a.b": "1", "sides": "(2, 2)", "new": "x"}
    assert run.data.tags["now.a.b"] == "2"


def test_wandb_online_has_each_step_once(online, tmp_path):
    for start in range(3):
        library = Wandb()
        assert library.connect(told(tmp_path)) == (0, 4, 6)[start]
        library.send(entries(tmp_path, *range(1, (5, 7, 7)[start])))
        library.close("finished" if start == 2 else "failed", "why" if start < 2 else "")
    rows = online.history["abcdef012345"]
    assert [(row["_step"], row["loss"]) for row in rows] == [(s, 1 / s) for s in range(1, 7)]
    assert all(math.isnan(row["odd"]) for row in rows)
    assert [row["_step"] for row in rows if "reconstruction" in row] == [2]
    assert online.names == {"abcdef012345": "name"}
    assert online.groups == {"abcdef012345": "study"}
    assert online.config["abcdef012345"]["a.b"] == 1


def test_wandb_offline_has_each_step_once(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for start in range(3):
        library = Wandb()
        assert library.connect(told(tmp_path)) == (0, 4, 6)[start]
        library.send(entries(tmp_path, *range(1, (5, 7, 7)[start])))
        library.close("finished", "")
    rows = rows_of(tmp_path, "abcdef012345")
    assert [(row["_step"], row["loss"]) for row in rows] == [(s, 1 / s) for s in range(1, 7)]
    assert "reconstruction.path" in rows[1]


def test_what_wandb_wrote_is_read_as_far_as_it_is_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    library = Wandb()
    library.connect(told(tmp_path))
    library.send([Entry(step, {"loss": 1 / step} | _many(step)) for step in range(1, 101)])
    library.close("finished", "")
    (path,) = tmp_path.glob("wandb/*-abcdef012345/*.wandb")
    whole = path.read_bytes()
    assert len(whole) > 3 * 32768  # so that records lie across blocks
    assert [row["_step"] for row in wandb_files.rows(path)] == [*range(1, 101)]
    last = 100
    for end in [*range(len(whole), 0, -997), 7, 3, 0]:
        path.write_bytes(whole[:end])
        steps = [row["_step"] for row in wandb_files.rows(path)]
        assert steps == [*range(1, len(steps) + 1)] and len(steps) <= last
        last = len(steps)
    path.write_bytes(whole[:50_000] + bytes(100) + whole[50_100:])
    assert 0 < wandb_files.last_step(tmp_path / "wandb", "abcdef012345") < 100


def _many(step):
    return {f"number_{name}": step / (name + 1) for name in range(40)}


def rows_of(run, id):
    return [row for path in wandb_files.paths(run / "wandb", id) for row in wandb_files.rows(path)]


def wanted(run):
    steps = {}
    for line in metrics.read(run):
        steps.setdefault(line.pop("step"), {}).update(line)
    return steps


def check_wandb(rows, run):
    """That the rows of W&B are what metrics.jsonl has, each step once and in its order."""
    numbers = [
        (row["_step"], {k: v for k, v in row.items() if k[0] != "_" and k[:6] != "recons"})
        for row in rows
    ]
    assert numbers == list(wanted(run).items())
    drawn = [row["_step"] for row in rows if any(k.startswith("reconstruction") for k in row)]
    assert drawn == [int(path.stem[5:]) for path in sorted(run.glob("panels/*.png"))]


def check_mlflow(id, run):
    """That what MLflow has is what metrics.jsonl has, each number once."""
    found, history = in_mlflow(id)
    numbers = sorted((m.step, m.key, m.value) for ms in history.values() for m in ms)
    steps = wanted(run)
    assert numbers == sorted((s, k, v) for s, line in steps.items() for k, v in line.items())
    assert files(found, "panels") == [f"panels/{p.name}" for p in sorted(run.glob("panels/*.png"))]
    assert found.info.status == "FINISHED"


def trains(environment, run, digits, names, looks, seconds):
    """A start in a process of its own, killed soon after it was measured so many times.

    It waits for its trackers before it trains on: otherwise it would be over before.

    Args:
      environment: the test's, where the server that forks has that of its first test.
      looks: 0 kills it at some moment of its start; None does not.
    """
    os.environ.clear()
    os.environ.update(environment)
    config = small_config(digits)
    config.log.trackers, config.train.steps, config.log.knn = names, STEPS, False
    config.model.depth, config.checkpoint.every_epochs = 1, 1.5
    met, measures, enough = [], [], threading.Event()

    def announce(teller, text):
        met.extend(name for name in names if text.startswith(f"{name}: "))

    telling.Teller.say = announce

    def kill():
        if looks:
            enough.wait()
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    def measured(step, _):
        while len(met) < len(names):
            time.sleep(0.01)
        measures.append(step)
        if len(measures) == looks:
            enough.set()
        time.sleep(0 if looks is None else 0.4)

    if looks is not None:
        threading.Thread(target=kill, daemon=True).start()
    loop.run(config, run, measured=measured)


def kill_often(run, digits, names):
    """Starts a run, kills it MAE_JAX_KILLS times, and lets it come to its end; its id."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mae_jax.train.loop"])
    rng, reached = random.Random(0), []
    for looks in (*LOOKS[:KILLS], None):
        seconds = rng.uniform(0, 0.8 if looks else 10)
        args = (dict(os.environ), run, digits, names, looks, seconds)
        child = context.Process(target=trains, args=args)
        child.start()
        child.join()
        assert child.exitcode == (0 if looks is None else -signal.SIGKILL)
        reached.append(max(wanted(run), default=0))
    assert len({*reached}) > KILLS // 2  # or it was not killed amid
    print("lines went up to", reached)
    return json.loads((run / trackers.FILE).read_text())["id"]


def test_after_many_kills_each_step_is_there_once_offline(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = tmp_path / "run"
    id = kill_often(run, digits, ("wandb", "mlflow"))
    check_wandb(rows_of(run, id), run)
    check_mlflow(id, run)


def test_after_many_kills_each_step_is_there_once_online(online, digits, tmp_path):
    run = tmp_path / "run"
    id = kill_often(run, digits, ("wandb",))
    assert online.names.keys() == {id}
    check_wandb(online.history[id], run)


def test_an_encoder_is_given_to_both(config, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    config.log.trackers, config.log.track_encoder = ("wandb", "mlflow"), True
    run = tmp_path / "run"
    loop.run(config, run, quiet=True)
    id = json.loads((run / trackers.FILE).read_text())["id"]
    check_wandb(rows_of(run, id), run)
    check_mlflow(id, run)
    made = files(in_mlflow(id)[0], "encoder/step_00000008")
    assert made[-1] == "encoder/step_00000008/model.safetensors" and len(made) == 3
    (path,) = wandb_files.paths(run / "wandb", id)
    assert b"model.safetensors" in path.read_bytes()


@pytest.mark.parametrize(
    "name, environment, reason",
    [
        ("mlflow", {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, "Max retries exceeded"),
        ("wandb", {}, "W&B knows no API key"),
        ("wandb", {"WANDB_API_KEY": "short"}, ""),
        ("wandb", {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}, ""),
    ],
    ids=["no-server", "no-key", "no-such-key", "no-network"],
)
def test_a_tracker_that_cannot_be_reached_is_a_line(
    name, environment, reason, config, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(senders, "PATIENCE", 5.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    config.log.trackers = (name,)
    began = time.monotonic()
    summary = loop.run(config, tmp_path / "run", quiet=True)
    assert summary["checkpoint"].endswith("/8") and time.monotonic() - began < 120
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{name} ")]
    assert len(lines) == 1 and reason in lines[0]

"""Several processes on this machine, connected as hosts are."""

import importlib.util
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from made import random_weights

from mae_jax import cli, hosts
from mae_jax.inference import shards
from mae_jax.parallel import Layout, Split
from mae_jax.train import loop, metrics
from mae_jax.train.checkpoints import checkpoint, manifest
from mae_jax.weights import adapt, export

SLOW = """
import sys, time
from mae_jax import supervisor
def work():
    from mae_jax import cli
    from mae_jax.data import loader
    make = loader.TrainBatches.__getitem__
    def slowly(self, step):
        time.sleep(0.2)
        return make(self, step)
    loader.TrainBatches.__getitem__ = slowly
    return cli.main(sys.argv)
sys.exit(supervisor.supervise(work))
"""


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def start(arguments, process, processes, port, *, devices=4, program=None):
    """`mae-jax` as one process of several."""
    command = [sys.executable, *(("-c", program) if program else ("-m", "mae_jax.cli"))]
    place = [
        f"--coordinator=localhost:{port}", f"--num_processes={processes}",
        f"--process_id={process}",
    ]  # fmt: skip
    # Unoptimised code is made in half the time, and this is about processes.
    xla = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    return subprocess.Popen(
        [*command, *arguments, *place], env=os.environ | {"XLA_FLAGS": xla}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def pair(arguments, **options):
    port = free_port()
    return [start(arguments, process, 2, port, **options) for process in range(2)]


def ended(processes, seconds=300):
    """(exit code, stdout, stderr) of each; kills those that hang."""
    deadline, results = time.monotonic() + seconds, []
    try:
        for process in processes:
            out, err = process.communicate(timeout=max(1, deadline - time.monotonic()))
            results.append((process.returncode, out, err))
    finally:
        for process in processes:
            process.kill()
    return results


@pytest.fixture
def config(digits_config):
    digits_config.model.depth, digits_config.train.steps = 1, 6
    digits_config.parallel.zero = True
    digits_config.log.eval_every_epochs = 10
    digits_config.checkpoint.every_epochs = digits_config.log.panel_every_epochs = 10
    return digits_config


@pytest.fixture
def arguments(config, tmp_path):
    """The command line that makes `config` of a config file."""
    from mae_jax.config import flatten

    path = tmp_path / "config.py"
    settings = {k: v for k, v in flatten(config.to_dict()).items() if v is not None}
    path.write_text(
        "from mae_jax.config import default_config\n"
        "def get_config():\n    c = default_config()\n"
        f"    c.update_from_flattened_dict({settings!r})\n    return c\n"
    )
    return ["pretrain", f"--config={path}", f"--workdir={tmp_path / 'run'}"]


def wait_for_step(folder, step, processes):
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and all(p.poll() is None for p in processes):
        if (folder / "metrics.jsonl").exists() and max(losses(folder), default=0) >= step:
            return
        time.sleep(0.1)
    raise AssertionError(f"never reached step {step}: {ended(processes, 1)}")


def worker(process):
    """The process that trains, which `process` supervises."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def losses(folder):
    return {line["step"]: line["loss"] for line in metrics.read(folder) if "loss" in line}


@pytest.mark.slow
def test_two_processes_train_what_one_does(config, arguments, tmp_path):
    compared = [*arguments, "--config.train.check_replicas_every=4"]
    # By two clocks, at the same steps.
    compared.append("--config.checkpoint.every_minutes=1e-6")
    (code, out, err), (code_1, out_1, err_1) = ended(pair(compared))
    assert (code, code_1) == (0, 0), err[-3000:] + err_1[-3000:]
    alone = loop.run(config, tmp_path / "alone", quiet=True)
    expected, found = losses(tmp_path / "alone"), losses(tmp_path / "run")
    assert expected.keys() == found.keys() == set(range(1, 7))
    for step, loss in expected.items():
        assert found[step] == pytest.approx(loss, abs=1e-5)
    measures = metrics.read(tmp_path / "run")[-1]
    for name in ("eval_loss", "eval_knn_accuracy"):
        assert measures[name] == pytest.approx(alone["measures"][name], abs=1e-5)
    assert "process 0 of 2 (given by flags), 4 of 8 cpu devices" in err
    assert "process 1 of 2 (given by flags), 4 of 8 cpu devices" in err_1
    assert manifest.steps(tmp_path / "run" / "checkpoints") == [4, 6]
    assert "mesh: data 8 x fsdp 1 x tensor 1, optimizer split over data too" in err
    assert "step 6/6" in err and "step" not in err_1
    assert "checkpoint" in out and out_1 == ""
    assert len(list((tmp_path / "run" / "panels").iterdir())) == 1


@pytest.mark.slow
def test_two_processes_are_taught_what_two_devices_are(config, arguments, tmp_path):
    """Bit for bit: with both, each of two devices has half of every batch."""
    config.train.steps = 2
    loop.run(config, tmp_path / "teacher", quiet=True)
    *rest, _ = arguments
    rest += ["--config.model.target=features", f"--config.train.teacher={tmp_path / 'teacher'}"]
    alone, both = ([*rest, f"--workdir={tmp_path / name}"] for name in ("alone", "both"))
    for results in (
        ended([start(alone, 0, 1, free_port(), devices=2)]),
        ended(pair(both, devices=1)),
    ):
        assert not any(code for code, *_ in results), results
    assert len(losses(tmp_path / "alone")) == 6
    assert losses(tmp_path / "alone") == losses(tmp_path / "both")
    one, two = (checkpoint.read_model(str(tmp_path / name)) for name in ("alone", "both"))
    for kind in ("params", "tables"):
        jax.tree.map(np.testing.assert_array_equal, one[kind], two[kind])


def flip(path, bit=160):
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


@pytest.mark.slow
def test_two_processes_verify_what_both_have_written(arguments, tmp_path):
    arguments.append("--config.checkpoint.every_epochs=0.5")
    results = ended(pair(arguments))
    assert [code for code, *_ in results] == [0, 0], results
    checkpoints = tmp_path / "run" / "checkpoints"
    step = checkpoints / "6"
    assert manifest.damage(step) is None
    first, second = (next(step.glob(f"optimizer/ocdbt.process_{p}/d/*")) for p in range(2))
    for path in (first, second):
        flip(path)
        assert path.name in manifest.damage(step)
        flip(path)
    rng, files = random.Random(0), sorted(path for path in step.rglob("*") if path.is_file())
    for path in files + rng.choices(files, [p.stat().st_size for p in files], k=200 - len(files)):
        bit = rng.randrange(8 * path.stat().st_size)
        flip(path, bit)
        assert manifest.damage(step) is not None, (path, bit)
        flip(path, bit)
    before = checkpoint.read_model(str(tmp_path / "run"))
    flip(second)
    (code, _, err), (code_1, _, err_1) = ended(pair(arguments))
    assert (code, code_1) == (0, 0), err + err_1
    assert f"checkpoint 6 is damaged and set aside as {checkpoints}/6.damaged-1: its file" in err
    assert "damaged" not in err_1
    assert sorted(path.name for path in checkpoints.iterdir()) == ["3", "6", "6.damaged-1"]
    after = checkpoint.read_model(str(tmp_path / "run"))
    jax.tree.map(np.testing.assert_array_equal, before["params"], after["params"])


FALTERS = """
import sys
from mae_jax import cli
from orbax.checkpoint._src.checkpointers import async_checkpointer
def falters(*_, **__):
    raise OSError(5, "Input/output error")
if "--process_id=1" in sys.argv:
    async_checkpointer._background_wait_for_commit_futures = falters
sys.exit(cli.main(sys.argv))
"""


@pytest.mark.slow
def test_one_that_cannot_write_its_part_ends_with_the_code_that_starts_all_again(arguments):
    # Orbax alone would let the others wait for it for ten minutes.
    began = time.monotonic()
    arguments += ["--config.checkpoint.every_steps=2", "--config.train.steps=400"]
    (code, _, err), (code_1, _, err_1) = ended(pair(arguments, program=FALTERS), 200)
    assert (code, code_1) == (43, 43), err + err_1
    said = r"^mae-jax: saving to .* failed: .*Input/output error; nothing that was saved is lost"
    assert re.search(said, err_1, re.MULTILINE), err_1  # below what Orbax logs of it
    assert re.search("^mae-jax: process 1 has ended: saving to", err, re.MULTILINE), err
    assert time.monotonic() - began < 150


@pytest.mark.slow
def test_sigterm_to_one_stops_all_at_one_step(config, arguments, tmp_path):
    arguments.append("--config.train.steps=40")
    config.train.steps = 40
    processes = pair(arguments, program=SLOW)
    wait_for_step(tmp_path / "run", 3, processes)
    processes[1].send_signal(signal.SIGTERM)
    results = ended(processes, 100)
    assert [code for code, *_ in results] == [42, 42], results
    stopped = [re.search(r"stopped at step (\d+) of 40", err).group(1) for *_, err in results]
    assert stopped[0] == stopped[1]
    saved = [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()]
    assert saved == [stopped[0]] and int(saved[0]) < 40
    # One process goes on where two were stopped.
    loop.run(config, tmp_path / "run", quiet=True)
    assert set(losses(tmp_path / "run")) == set(range(1, 41))


@pytest.mark.slow
def test_a_dead_or_stopped_process_ends_all_and_they_resume(arguments, tmp_path):
    """Another undisturbed run has the same parameters, bit for bit."""
    arguments += ["--config.train.steps=18", "--config.checkpoint.every_epochs=0.5"]
    folder, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    codes = [code for code, *_ in ended(pair([*arguments, f"--workdir={undisturbed}"]))]
    assert codes == [0, 0]
    faults = [
        (4, 1, signal.SIGKILL, "process 1 was ended by SIGKILL at (what follows )?step"),
        (8, 0, signal.SIGKILL, "process 0 was ended by SIGKILL at (what follows )?step"),
        (12, 1, signal.SIGSTOP, "process 1 was stopped at (what follows )?step"),
    ]
    for step, victim, what, said in faults:
        limit = ["--step_limit=6"] if what == signal.SIGSTOP else []
        processes = pair([*arguments, *limit], program=SLOW)
        wait_for_step(folder, step, processes)
        began = time.monotonic()
        os.kill(worker(processes[victim]), what)
        results = ended(processes, 60)
        assert [code for code, *_ in results] == [43, 43], results
        assert time.monotonic() - began < 60
        for process, (_, _, err) in enumerate(results):
            assert one_sentence(err, said if process == victim else "process"), err
        if what == signal.SIGSTOP:
            for process in range(2):
                stacks = (folder / f"stacks-process-{process}.txt").read_text()
                assert "in train_step" in stacks or "in train" in stacks
    assert [code for code, *_ in ended(pair(arguments))] == [0, 0]
    one, other = (checkpoint.read_model(str(path))["params"] for path in (folder, undisturbed))
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.slow
def test_a_missing_process_is_an_error_and_no_hang(arguments):
    began = time.monotonic()
    arguments.append("--init_timeout=3")
    first, second = (start(arguments, process, 2, free_port()) for process in (0, 1))
    (code, _, err), (code_1, _, err_1) = ended([first, second], 100)
    assert (code, code_1) == (43, 43), err + err_1
    assert one_sentence(err, r"after 3 s process 0 of 2 at localhost:\d+ still waits .* not all of")
    assert one_sentence(err_1, r"process 1 of 2 .* process 0 does not answer there")
    assert time.monotonic() - began < 90


@pytest.mark.slow
def test_processes_started_differently_all_say_so(arguments):
    port = free_port()
    processes = [
        start([*arguments, f"--config.train.base_lr={rate}"], process, 2, port)
        for process, rate in enumerate((0.1, 0.2))
    ]
    for code, _, err in ended(processes):
        assert code == 2, err
        assert one_sentence(err, r"started alike, but train\.base_lr is 0\.1 in process 0 and 0\.2")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--coordinator=a:1"], "--num_processes and --process_id must be given too"),
        (["--process_id=0", "--num_processes=2"], "--coordinator must be given too"),
        (["--coordinator=a", "--process_id=0", "--num_processes=2"], "must be HOST:PORT"),
        (["--coordinator=a:1", "--process_id=2", "--num_processes=2"], "must be from 0 to 1"),
        (["--init_timeout=0"], "--init_timeout 0 must be at least 1 second"),
    ],
)
def test_flags_that_are_wrong(capsys, arguments, tmp_path, flags, message):
    assert cli.main(["mae-jax", *arguments, *flags]) == 2
    assert one_sentence(capsys.readouterr().err, re.escape(message))
    assert not (tmp_path / "run").exists()


def test_alone_nothing_is_waited_for():
    assert hosts.initialise() == hosts.initialise(processes=1) == "one process"
    assert hosts.is_first() and not hosts.several()
    with hosts.together():
        assert hosts.in_turn(lambda: 7) == 7
    hosts.check_same({"anything": 1})
    ballot = hosts.Ballot(Layout.of(Split(data=8)).mesh)
    assert ballot.cast(False, True) == (False, True)


def test_a_cluster_is_found(monkeypatch):
    for name in ("JOB_ID", "STEP_NODELIST", "NTASKS", "PROCID", "LOCALID"):
        monkeypatch.setenv(f"SLURM_{name}", "1")
    assert hosts._detected() == "slurm"
    assert hosts.initialise(processes=1) == "one process"


def test_where_jax_does_not_say_what_it_finds_its_own_search_decides(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax._src.clusters", None)  # as if it had moved
    assert hosts._detected() == hosts._UNKNOWN
    monkeypatch.setattr(hosts, "_keep_stdout", lambda: None)

    def nobody(*_, **options):
        assert options["cluster_detection_method"] is None
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", nobody)
    assert hosts.initialise() == "one process"


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_processes_of_mpi_are_told_how_to_connect(monkeypatch, capsys, arguments, tmp_path, name):
    """Open MPI 5 and MPICH, which JAX does not detect by itself: one would train alone."""
    monkeypatch.setenv(name, "2")
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None)
    assert cli.main(["mae-jax", *arguments]) == 2
    assert one_sentence(capsys.readouterr().err, f"{name} .* one of 2 processes .*mpi4py")
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv(name, "1")
    assert hosts.initialise() == "one process"


def test_mpi4py_is_asked_and_may_lack_its_library(arguments, tmp_path):
    package = tmp_path / "packages" / "mpi4py"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "MPI.py").write_text("raise ImportError('libmpi.so.40: no such file')\n")
    added = {"OMPI_COMM_WORLD_SIZE": "2", "PYTHONPATH": str(package.parent)}
    made = subprocess.run(
        [sys.executable, "-m", "mae_jax.cli", *arguments],
        env=os.environ | added, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert made.returncode == 2, made.stderr
    assert one_sentence(made.stderr, r"\(mpi4py\) could not be connected: libmpi\.so\.40")
    assert not (tmp_path / "run").exists()


def one_sentence(text, message):
    ours = re.findall("mae-jax: .*", text)  # perhaps in a line that Gloo has begun
    return len(ours) == 1 and re.search(message, ours[0]) and "Traceback" not in text


@pytest.mark.slow
def test_two_processes_make_the_shards_that_one_does(tmp_path):
    from PIL import Image

    rng, photos = np.random.default_rng(0), tmp_path / "photos"
    photos.mkdir()
    for index in range(7):
        pixels = rng.integers(0, 2**16, (32, 32)).astype(np.uint16)  # grey, of 16 bits
        Image.fromarray(pixels).save(photos / f"{index}.png")
    (photos / "2.png").write_bytes(b"nothing")  # process 1 finds it, process 0 says it
    source = tmp_path / "encoder"
    export.export(adapt.with_channels(random_weights("encoder"), 1), source, format="npz")
    embed = ["embed", str(source), f"--images={photos}"]
    for code, _, err in ended(pair([*embed, f"--out={tmp_path / 'f.npz'}"], devices=2), 200):
        assert code == 2 and one_sentence(err, "several processes .* with --shard=IMAGES"), err
    out = tmp_path / "both"
    sources = str(tmp_path / "nothing"), str(source)
    unlike = [[*embed, "--shard=2", f"--output={kind}"] for kind in ("mean", "token")]
    lacking = [["embed", path, f"--images={photos}", "--shard=2"] for path in sources]
    for commands, said in ((unlike, "must be started alike"), (lacking, "nothing' does not exist")):
        port = free_port()
        two = [
            start([*command, f"--out={out}"], process, 2, port, devices=2)
            for process, command in enumerate(commands)
        ]
        for code, _, err in ended(two, 100):
            assert code == 2 and one_sentence(err, said), err
    assert not out.exists()
    results = ended(pair([*embed, "--shard=2", f"--out={out}"], devices=2), 200)
    assert re.search(r"^broken +1$", results[0][1], re.MULTILINE), results
    for code, _, err in results:
        assert code == 0 and len(re.findall(r"\d of 4 shards", err)) == 2, err
    assert cli.main(["mae-jax", *embed, "--shard=2", f"--out={tmp_path / 'alone'}"]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["index.json", *(f"{number:05d}.npz" for number in range(4))]
    )
    pairs = list(zip(shards.read(out), shards.read(tmp_path / "alone"), strict=True))
    for found, expected in pairs:
        np.testing.assert_allclose(found.features, expected.features, atol=1e-5)
        assert found.names == expected.names and (found.digests == expected.digests).all()
    assert [found.broken.tolist() for found, _ in pairs][1] == [True, False]


@pytest.mark.slow
def test_too_many_broken_images_end_all(config, arguments, tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for index in range(30):
        Image.new("L", (9, 9), index).save(tmp_path / "photos" / f"{index:02d}.png")
    for index in (3, 4, 5):
        (tmp_path / "photos" / f"{index:02d}.png").write_bytes(b"nothing")
    arguments += [f"--config.data.folder={tmp_path / 'photos'}", "--config.train.steps=400"]
    arguments += ["--config.data.split=all", "--config.data.eval_split=all[:5]"]
    path = tmp_path / "config.py"
    path.write_text(
        path.read_text().replace("    return c", "    c.data.name = None\n    return c")
    )
    results = ended(pair(arguments), 200)
    assert [code for code, *_ in results] == [3, 3], results
    assert all(
        one_sentence(err, r"2 of 30 records are broken, more than the 1 that data\.broken_share")
        for _, _, err in results
    ), results

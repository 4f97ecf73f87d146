"""Kills a small run again and again, and looks whether it ends as if nothing had happened.

    .venv/bin/python benchmarks/soak.py --kills=200

A masked autoencoder of one block is trained on a few images that are made here. It is killed where
it calls one of `POINTS`, or at a moment by the clock, by SIGKILL and SIGTERM in turn, and always
started again by the same command; when it comes to its end the next run begins. Each must end with
the arrays, the position, the panels and the lines of metrics.jsonl of a run that nobody disturbed,
and every exit code must be one that the signal explains. Otherwise this ends with 1, and the folder
of the run is kept.
"""

import argparse
import dataclasses
import functools
import importlib
import json
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
STEPS, SAVED_EVERY = 24, 4
PREEMPTED, START_AGAIN = 42, 43
_LIMIT = 600  # seconds that a start may take
# As long as that may be waited for within what is called, before the signal is sent.
_DURING = 0.3


@dataclasses.dataclass(frozen=True)
class Point:
    """Where a run kills itself: as it calls something.

    Attributes:
      phase: of a run; a heading in the summary.
      called: module:name, as the caller looks it up.
      moments: before the call, during it, after it.
      calls: it is one of the first so many calls that kills.
    """

    phase: str
    called: str
    moments: tuple[str, ...] = ("before", "after")
    calls: int = 1


POINTS = (
    Point("start", "mae_jax.train.loop:prepare"),
    Point("start", "mae_jax.train.workdir:claim", ("before",)),
    Point("start", "mae_jax.train.workdir:Claim.record"),
    Point("start", "mae_jax.train.metrics:Metrics.__init__"),
    Point("start", "os:replace"),
    Point("restore", "mae_jax.train.checkpoints.checkpoint:restore", ("before", "during", "after")),
    Point("restore", "mae_jax.train.checkpoints.manifest:damage"),
    Point("compile", "mae_jax.train.loop:train_step", ("before", "during", "after")),
    Point("step", "mae_jax.train.loop:train_step", calls=12),
    Point("step", "mae_jax.train.loop:put", calls=12),
    Point("metrics", "mae_jax.train.metrics:Metrics.write", calls=12),
    Point("evaluation", "mae_jax.train.watch:Watch.measure", ("before", "during", "after"), 3),
    Point("evaluation", "mae_jax.train.watch:Watch.neighbours", calls=3),
    Point("panel", "mae_jax.train.watch:Watch.panel", ("before", "during", "after"), 2),
    Point("panel", "PIL.Image:Image.save", calls=2),
    Point("save", "mae_jax.train.checkpoints.checkpoint:save", ("before", "during", "after"), 4),
    Point("save", "mae_jax.train.checkpoints.manifest:write", ("before", "during", "after"), 4),
    Point("save", "os:rename", calls=12),
    Point("save", "shutil:rmtree", calls=4),
    Point("end", "mae_jax.train.loop:_Run._summary"),
    Point("end", "mae_jax.train.loop:run", ("after",)),
)
PHASES = (*dict.fromkeys(point.phase for point in POINTS), "clock")


@dataclasses.dataclass(frozen=True)
class Plan:
    """One kill to be: where, by which signal.

    Attributes:
      marker: a file that tells of it.
      whom: of a command that is more than one process, by the clock: all, the one that was started,
        or one that it has started itself.
    """

    phase: str
    signal: signal.Signals
    marker: Path
    whom: str = "itself"
    called: str = ""
    moment: str = ""
    call: int = 1
    seconds: float = 0.0

    def __str__(self):
        if self.phase == "clock":
            return f"after {self.seconds:.1f} s, {self.whom}"
        return f"{self.moment} call {self.call} of {self.called}"


def planned(seed: int, whole: float, folder: Path):
    """Endless kills, every phase in turn, every point and signal as often as the others.

    Args:
      whole: seconds that a run takes from its start to its end.
      folder: for markers.
    """
    rng, waiting = random.Random(seed), {phase: [] for phase in PHASES}
    while True:
        for phase in rng.sample(PHASES, len(PHASES)):
            if not waiting[phase]:
                choices = [(p, m) for p in POINTS if p.phase == phase for m in p.moments]
                waiting[phase] = [
                    (choice, s)
                    for choice in choices or [None]
                    for s in (signal.SIGKILL, signal.SIGTERM)
                ]
                rng.shuffle(waiting[phase])
            choice, number = waiting[phase].pop()
            if choice is None:
                seconds = rng.uniform(0, whole)
                # Of processes that are asked to stop, schedulers tell all or the first.
                whom = ("all", "parent", "child")[: 3 if number == signal.SIGKILL else 2]
                yield Plan(phase, number, folder / "killed", rng.choice(whom), seconds=seconds)
            else:
                point, moment = choice
                call, seconds = rng.randint(1, point.calls), rng.uniform(0, _DURING)
                called = point.called
                yield Plan(
                    phase, number, folder / "killed", "itself", called, moment, call, seconds
                )


def trains(arguments: list[str], log: Path, plan: Plan | None) -> None:
    """What a process does: the command line's, killed as planned."""
    os.setsid()
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if plan is not None:
        _arm(plan)
    sys.argv = ["mae-jax", *arguments]
    runpy.run_module("mae_jax.cli", run_name="__main__")


def _arm(plan):
    if plan.phase == "compile":
        import jax

        jax.config.update("jax_enable_compilation_cache", False)
    module, names = plan.called.split(":")
    *path, name = names.split(".")
    owner = functools.reduce(getattr, path, importlib.import_module(module))
    whole, calls = getattr(owner, name), 0

    def kill():
        # Whether anybody listens says which exit codes are right.
        plan.marker.write_text(str(callable(signal.getsignal(signal.SIGTERM))))
        os.kill(os.getpid(), plan.signal)

    @functools.wraps(whole)
    def deadly(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls != plan.call:
            return whole(*args, **kwargs)
        if plan.moment == "before":
            kill()
        if plan.moment == "during":
            timer = threading.Timer(plan.seconds, kill)
            timer.daemon = True
            timer.start()
        made = whole(*args, **kwargs)
        if plan.moment == "after":
            kill()
        return made

    setattr(owner, name, deadly)


class Soak:
    """The runs of one soak, below a folder."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.differences = folder, []
        self.table: Counter[tuple[str, str, int]] = Counter()
        _make_images(folder / "images", np.random.default_rng(seed))
        self._context = multiprocessing.get_context("forkserver")
        # Most of a start is imports: a process that has made them is forked for every start.
        self._context.set_forkserver_preload(
            ["mae_jax.train.loop", "mae_jax.weights.start", "tensorflow_datasets"]
        )

    def command(self, run: Path) -> list[str]:
        config = self.folder / "config.py"
        config.write_text(_CONFIG.format(images=str(self.folder / "images"), steps=STEPS))
        return ["pretrain", f"--config={config}", f"--workdir={run}"]

    def start(self, run: Path, plan: Plan | None = None) -> int:
        """Runs the command once, killed as planned; its exit code, negative for a signal."""
        log = run.with_suffix(".log")
        if plan is not None and plan.phase == "clock":
            return self._by_the_clock(run, log, plan)
        process = self._context.Process(target=trains, args=(self.command(run), log, plan))
        process.start()
        process.join(_LIMIT)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            raise RuntimeError(f"{run} still ran after {_LIMIT} s")
        return process.exitcode

    def _by_the_clock(self, run, log, plan):
        """The command as users give it, imports and all."""
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "mae_jax.cli", *self.command(run)],
                stdout=file, stderr=file, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        try:
            process.wait(plan.seconds)
        except subprocess.TimeoutExpired:
            plan.marker.write_text("")
            _send(process.pid, plan)
        return process.wait(_LIMIT)

    def killed(self, run: Path, plan: Plan) -> int | None:
        """One start that is to be killed; its exit code, or None where the run ended before."""
        plan.marker.unlink(missing_ok=True)
        code = self.start(run, plan)
        if not plan.marker.exists():
            if code:
                self.differs(run, f"ended with {code} by itself, to be killed {plan}")
            return None
        logged, saved = _reached(run)
        print(
            f"{plan.phase:10s} {plan.signal.name} {plan}: "
            f"step {logged}, saved {saved}, code {code}",
            flush=True,
        )
        self.table[plan.phase, plan.signal.name, code] += 1
        if not _explained(plan, code, saved):
            self.differs(run, f"ended with {code}, killed by {plan.signal.name} {plan}")
        # What is logged is made; what is lost is made again.
        heard = "saved in" in run.with_suffix(".log").read_text()
        if code == PREEMPTED and heard and saved < logged:
            self.differs(run, f"said that it saved, but step {logged} is lost, {saved} is there")
        # The step being saved, and those made meanwhile.
        if logged - saved > 2 * SAVED_EVERY:
            self.differs(run, f"lost all steps from {saved} to {logged}")
        return code

    def differs(self, run: Path, how: str) -> None:
        log = run.with_suffix(".log").read_text()[-2000:]
        print(f"DIFFERS: {run} {how}\n{log}", flush=True)
        self.differences.append(f"{run} {how}")

    def compare(self, run: Path, whole: Path) -> None:
        """Notes what of a run is other than of the one nobody disturbed."""
        found, expected = made_by(run), made_by(whole)
        for name in sorted(found.keys() | expected.keys()):
            if not _equal(found.get(name), expected.get(name)):
                self.differs(run, f"has another {name} than {whole}")

    def run(self, kills: int, seed: int) -> bool:
        """Whether all ended as they should."""
        whole, number, began = self.folder / "whole", 0, time.monotonic()
        code = self.start(whole)  # and makes ready what starts the others
        seconds = time.monotonic() - began
        if code:
            self.differs(whole, f"ended with {code}, undisturbed")
            return False
        print(f"undisturbed: {seconds:.1f} s", flush=True)
        run, plans = self.folder / "run-0", planned(seed, seconds, self.folder)
        while sum(self.table.values()) < kills and not self.differences:
            code = self.killed(run, next(plans))
            if _reached(run)[1] == STEPS and code in (0, None):
                self.compare(run, whole)
                number += 1
                run = self.folder / f"run-{number}"
        if run.exists() and not self.differences:
            code = self.start(run)
            if code:
                self.differs(run, f"ended with {code}, undisturbed at last")
            self.compare(run, whole)
            number += 1
        print(f"{sum(self.table.values())} kills, {number} runs that came to their end")
        for key in sorted({key[:2] for key in self.table}, key=lambda k: (PHASES.index(k[0]), k)):
            codes = {c: n for (*k, c), n in sorted(self.table.items()) if tuple(k) == key}
            told = ", ".join(f"code {code}: {count}" for code, count in codes.items())
            print(f"  {key[0]:10s} {key[1]}  {sum(codes.values()):4d}  {told}")
        for difference in self.differences:
            print(f"DIFFERS: {difference}")
        return not self.differences


def _send(pid: int, plan: Plan) -> None:
    if plan.whom == "all":
        os.killpg(pid, plan.signal)
        return
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(children[0]) if children and plan.whom == "child" else pid, plan.signal)


def _explained(plan: Plan, code: int, saved: int) -> bool:
    if plan.signal == signal.SIGKILL:
        return code in (-signal.SIGKILL, 128 + signal.SIGKILL, START_AGAIN)
    # Until the run listens the signal ends it, and who looks after it may say that it starts again.
    unheard = {-signal.SIGTERM, 128 + signal.SIGTERM, PREEMPTED}
    # When all is done, nothing is left to stop.
    heard = {PREEMPTED, 0} if saved == STEPS else {PREEMPTED}
    return code in {"True": heard, "False": unheard}.get(plan.marker.read_text(), heard | unheard)


def _reached(run: Path) -> tuple[int, int]:
    """The last step in metrics.jsonl, and that of the last checkpoint; 0 without."""
    from mae_jax.train import metrics
    from mae_jax.train.checkpoints import manifest

    lines = metrics.read(run) if (run / "metrics.jsonl").exists() else []
    return max((line["step"] for line in lines), default=0), max(
        manifest.steps(run / "checkpoints"), default=0
    )


_TIMES = ("images_per_second", "data_wait_share")


def made_by(run: Path) -> dict[str, Any]:
    """What must be the same however often a run was killed, by names."""
    import jax
    import orbax.checkpoint as ocp
    from absl import logging

    from mae_jax.train.checkpoints.saving import manager_of

    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    made: dict[str, Any] = {
        "metrics.jsonl": [{k: v for k, v in line.items() if k not in _TIMES} for line in lines]
    }
    made |= {f"panel {path.name}": path.read_bytes() for path in run.glob("panels/*")}
    logging.set_verbosity(logging.ERROR)  # Orbax warns that it can only read
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with manager_of(run / "checkpoints", read_only=True) as manager:
        made["last step"] = step = manager.latest_step()
        shapes = manager.item_metadata(step)
        for item in ("model", "optimizer"):
            template = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
                shapes[item],
            )
            kept = ocp.args.Composite(**{item: ocp.args.StandardRestore(template)})
            for path, leaf in jax.tree.leaves_with_path(manager.restore(step, args=kept)[item]):
                made[f"{item}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
        kept = ocp.args.Composite(position=ocp.args.JsonRestore())
        made["position"] = manager.restore(step, args=kept).position
    return made


def _equal(one, other):
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    return one == other


# One device and unoptimised code: this is about what is kept, not about numbers.
_CONFIG = """
from mae_jax.config import default_config

def get_config():
    config = default_config()
    model, data, train = config.model, config.data, config.train
    model.image_size, model.patch_size, model.channels = (8, 8), (4, 4), 1
    model.width, model.depth, model.heads = 16, 1, 2
    model.decoder_width, model.decoder_depth, model.decoder_heads = 16, 1, 2
    data.folder, data.split, data.eval_split = {images!r}, "all[:32]", "all[32:]"
    data.batch_size, data.flip, data.workers = 8, False, 0
    train.steps, train.warmup_epochs, train.base_lr, train.ema = {steps}, 0.5, 1e-2, 0.9
    config.checkpoint.every_epochs = 1.0
    config.log.eval_every_epochs, config.log.panel_every_epochs = 1.5, 2.0
    config.log.every_steps, config.log.tensorboard = 1, False
    return config
"""


def _make_images(folder, rng):
    from PIL import Image

    for index in range(40):
        path = folder / "ab"[index % 2] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mae_jax_soak_"))
    os.environ |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    sys.path.insert(0, str(ROOT))
    well = Soak(folder, arguments.seed).run(arguments.kills, arguments.seed)
    if well:
        shutil.rmtree(folder)
    sys.exit(not well)


if __name__ == "__main__":
    main()

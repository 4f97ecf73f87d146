"""From the command to the first line of metrics: a first start, and one that finds its programs.

  python benchmarks/start.py                      # the digits, and ViT-L on one device
  python benchmarks/start.py --only=digits --rounds=5

Every round has a cache of compiled programs of its own, empty at first: its first start fills it,
its second finds them there. A start is timed until the metrics of the first step lie in the work
folder, and the run is ended there. ViT-L trains on random images, two of them a step.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
COMMON = ["--config.log.every_steps=1", "--config.log.tensorboard=False"]
LARGE = [
    "--config=configs/in1k/l16.py", "--config.data.name=None", "--config.data.split=all",
    "--config.data.eval_split=None", "--config.data.batch_size=2", "--config.train.epochs=None",
    "--config.train.steps=3", "--config.train.warmup_epochs=0", "--config.data.workers=0",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["digits", "large"])
    options = parser.parse_args()
    names = [options.only] if options.only else ["digits", "large"]
    print("| | first start, s | second start, s | second over first |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            rounds = 1 if name == "large" else options.rounds
            times = [_round(name, Path(place) / f"{name}-{i}") for i in range(rounds)]
            first, second = zip(*times, strict=True)
            shares = [b / a for a, b in times]
            cells = [_spread(values) for values in (first, second, shares)]
            print(f"| {name}, {rounds} rounds | {' | '.join(cells)} |", flush=True)


def _round(name: str, folder: Path) -> tuple[float, float]:
    folder.mkdir()
    if name == "digits":
        given = ["--config=configs/digits.py", f"--config.data.dir={folder.parent / 'tfds'}"]
    else:
        _random_images(folder / "images")
        given = [*LARGE, f"--config.data.folder={folder / 'images'}"]
    if name == "digits" and not (folder.parent / "tfds").exists():
        _start(given, folder / "prepared", folder / "unused")  # which prepares the data set
    return tuple(_start(given, folder / str(i), folder / "programs") for i in range(2))


def _random_images(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (256, 256, 3), np.uint8)).save(folder / f"{i}.png")


def _start(given: list[str], workdir: Path, programs: Path) -> float:
    """Seconds until the first line of metrics."""
    command = [Path(sys.executable).with_name("mae-jax"), "pretrain", *given, *COMMON]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    began, log = time.perf_counter(), workdir.with_suffix(".log")
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, f"--workdir={workdir}"],
            cwd=REPOSITORY,
            env=environment | {"XDG_CACHE_HOME": str(programs)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    metrics = workdir / "metrics.jsonl"
    while not (metrics.exists() and '"loss"' in metrics.read_text()):
        if process.poll() is not None:
            raise SystemExit(f"the run ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return seconds


def _spread(values) -> str:
    middle = statistics.median(values)
    if len(values) == 1:
        return f"{middle:.2f}"
    return f"{middle:.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()

"""Memory over 20 epochs of a folder, and how long a large set takes to resume.

    .venv/bin/python benchmarks/input_memory.py

Memory is what this process and its worker processes hold (proportional set size), after each epoch.
Resuming is measured until the first batch is there, at step 0 and at step 50,000, by turns.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import photographs
import psutil

from mae_jax.data import loader, prepare, sources
from mae_jax.pixels import Pixels

PICTURE = loader.Picture(Pixels((224, 224), 3, crop=0.875), (0.2, 1.0), (3 / 4, 4 / 3), True)


def held() -> float:
    """MiB of this process and those it started; what they share is counted once."""
    own = psutil.Process()
    processes = [own, *own.children(recursive=True)]
    return sum(process.memory_full_info().pss for process in processes) / 2**20


def memory(folder: Path, images: int, epochs: int, workers: int, batch_size: int) -> None:
    photographs.write(folder, images, photographs.SMALL)
    source = sources.FolderSource(str(folder), "all")
    steps = epochs * images // batch_size
    made = loader.TrainBatches(source, PICTURE, batch_size=batch_size, seed=0, steps=steps)
    print(f"{images} images, batches of {batch_size}, {workers} workers")
    found = []
    for step, _ in enumerate(made.iterate(0, workers), 1):
        epoch, rest = divmod(step * batch_size, images)
        if not rest:
            found.append(held())
            print(f"  epoch {epoch:2d}  {found[-1]:7.1f} MiB", flush=True)
    half = len(found) // 2
    growth = statistics.mean(found[half:]) / statistics.mean(found[1:half]) - 1
    print(f"  second half over the first (from epoch 2): {growth:+.1%}")


def resume(folder: Path, records: int, step: int, rounds: int) -> None:
    (folder / "in").mkdir()
    for index in range(records):
        name = f"{index:06d}.npy"
        np.save(folder / "in" / name, np.full((8, 8), index % 256, np.uint8))
    prepare.prepare(str(folder / "in"), str(folder / "set"), workers=1)
    picture = loader.Picture(Pixels((8, 8), 1, crop=1.0))
    taken: dict[int, list[float]] = {0: [], step: []}
    for _ in range(rounds):
        for start, times in taken.items():
            began = time.perf_counter()
            source = sources.FolderSource(str(folder / "set"), "all")
            made = loader.TrainBatches(source, picture, batch_size=64, seed=0, steps=100_000)
            next(made.iterate(start, 0))
            times.append(time.perf_counter() - began)
    print(f"{records} records, batches of 64, until the first batch is there")
    for start, times in taken.items():
        print(f"  from step {start:6d}: {statistics.median(times):.3f} s"
              f"   rounds {' '.join(f'{t:.3f}' for t in times)}")  # fmt: skip
    ratio = statistics.median(taken[step]) / statistics.median(taken[0])
    print(f"  ratio {ratio:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--step", type=int, default=50_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "large").mkdir()
        resume(Path(made) / "large", arguments.records, arguments.step, rounds=5)
        memory(Path(made) / "photographs", arguments.images, arguments.epochs,
               arguments.workers, arguments.batch_size)  # fmt: skip


if __name__ == "__main__":
    main()

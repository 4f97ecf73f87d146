"""Our input against the reference's, on the same JPEG files in one run.

    make test-interop    # once, for torch and torchvision
    .venv-interop/bin/python benchmarks/input_vs_pytorch.py

The reference is that of the published MAE: Pillow's decoder, torchvision's random resized crop with
bicubic resampling, mirroring, then to float and standardised, collated by PyTorch's DataLoader. A
second line leaves out float and standardising, which we leave to the device.

The sides take turns. Images per second per core are images over the CPU time of one process without
workers, or of ours and its only worker process together; then both sides with one worker and with
two, by the clock. From what an image costs a worker, and the process that takes its batches,
follows what more workers on a machine of more cores (--cores=16) would give: extrapolated.
"""

import argparse
import json
import multiprocessing
import pickle
import statistics
import tempfile
import time
from concurrent import futures
from pathlib import Path

import numpy as np
import photographs
import psutil
import torch
from PIL import Image

from mae_jax.data import augment, images, loader, memory, sources
from mae_jax.pixels import Pixels

# torchvision's wheels on PyPI are made for a torch with CUDA. Beside one without, its operators
# lack, and it fails to describe two of them, which nothing here uses: declared, it imports.
if "+cpu" in torch.__version__:
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision import datasets, transforms
from torchvision.transforms import functional

SIDE, BATCH = 224, 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PICTURE = loader.Picture(Pixels((SIDE, SIDE), 3, crop=0.875), (0.2, 1.0), (3 / 4, 4 / 3), True)


def reference(folder: str, workers: int, standardise: bool) -> torch.utils.data.DataLoader:
    """The published loader; an epoch of it."""
    last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return torch.utils.data.DataLoader(
        datasets.ImageFolder(
            folder,
            transforms.Compose(
                [
                    transforms.RandomResizedCrop(
                        SIDE, scale=(0.2, 1.0), interpolation=transforms.InterpolationMode.BICUBIC
                    ),
                    transforms.RandomHorizontalFlip(),
                    *(last if standardise else [transforms.PILToTensor()]),
                ]
            ),
        ),
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
    )


def batches_of(folder: str, steps: int) -> loader.TrainBatches:
    """Ours."""
    source = sources.FolderSource(folder, "all")
    return loader.TrainBatches(source, PICTURE, batch_size=BATCH, seed=0, steps=steps)


def in_process(files: list[Path], rounds: int) -> tuple[dict[str, list[float]], tuple]:
    """Images per second of CPU time, by rounds: of all sides, and of ours through a worker.

    Also the medians of what `through_worker` measures.
    """
    found: dict[str, list[float]] = {}
    costs = []
    context = multiprocessing.get_context("spawn")
    for _ in range(rounds):
        for name in (*SIDES, THROUGH):
            # A process each, as loaders' workers are: one side's settings must not help another.
            with futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                if name in SIDES:
                    rate = pool.submit(one_side, name, files).result()
                else:
                    costs.append(pool.submit(through_worker, files).result())
                    rate = 1 / sum(costs[-1])
                found.setdefault(name, []).append(rate)
    return found, tuple(map(statistics.median, zip(*costs, strict=True)))


def one_side(name: str, files: list[Path]) -> float:
    """Images per second of CPU time, after a few to warm up."""
    torch.set_num_threads(1)
    steps = max(1, len(files) // BATCH)
    make = SIDES[name]
    for _ in make(files[: max(len(files) // 8, 1)], 1):
        pass
    began = time.process_time()
    for _ in make(files, steps):
        pass
    return steps * BATCH / (time.process_time() - began)


def through_worker(files: list[Path]) -> tuple[float, float]:
    """CPU seconds per image of a worker, and of who takes its batches, after the first ones."""
    skip, steps = 4, max(1, 4 * len(files) // BATCH)  # long: such times are of ten milliseconds
    batches = batches_of(str(files[0].parents[1]), 4 * skip + steps).iterate(0, 1)
    for _ in range(skip):
        next(batches)
    began, own_began = cpu(), time.process_time()
    for _ in range(steps):
        next(batches)
    own = (time.process_time() - own_began) / (steps * BATCH)
    both = (cpu() - began) / (steps * BATCH)
    batches.close()
    return both - own, own


def extrapolated(worker: float, own: float, cores: int) -> dict[int, float]:
    """Images a second by number of workers, if nothing but these costs limits them.

    Args:
      worker, own: as `through_worker` measures them.
      cores: of the machine; one more process than workers runs on them.
    """
    counts = sorted({1, 2, 4, 8, 16, 32, cores - 1})
    return {n: min(n / worker, 1 / own) for n in counts if 1 <= n < cores}


def ours(files: list[Path], steps: int):
    """What a worker process of ours does."""
    batches = pickle.loads(pickle.dumps(batches_of(str(files[0].parents[1]), steps)))
    return (batches[step] for step in range(steps))


def bare(files: list[Path], steps: int):
    """Files to the same views, with nothing around: no order, no batches, no processes."""
    memory.keep_freed()
    rng = np.random.default_rng(0)
    for path in files[: steps * BATCH]:
        image = images.open_image(path.read_bytes(), PICTURE.form, "")
        yield PICTURE.augmented(image, [rng])[0]


SIDES = {
    "reference": lambda files, steps: reference(str(files[0].parents[1]), 0, True),
    "reference, uint8": lambda files, steps: reference(str(files[0].parents[1]), 0, False),
    "ours": ours,
    "ours, bare decode": bare,
}
THROUGH = "ours, through a worker"


def difference(files: list[Path]) -> tuple[float, float]:
    """Mean absolute difference of views from torchvision's of the same boxes, and the worst."""
    rng, found = np.random.default_rng(0), []
    for path in files:
        data = path.read_bytes()
        image = images.open_image(data, PICTURE.form, "")
        left, top, width, height = box = augment.random_box(image.height, image.width, rng)
        with Image.open(path) as opened:
            theirs = functional.resized_crop(
                opened.convert("RGB"), top, left, height, width, [SIDE, SIDE],
                transforms.InterpolationMode.BICUBIC,
            )  # fmt: skip
        ours = image.views([box], (SIDE, SIDE))[0].astype(int)
        found.append(np.abs(ours - np.asarray(theirs)).mean())
    return float(np.mean(found)), float(np.max(found))


def with_workers(folder: str, steps: int, workers: int) -> list[tuple[float, float]]:
    """Ours, then the reference's: images per second by the clock, and of all processes' CPU time.

    Measured after each worker's first batches.
    """
    rates = []
    for batches in (
        batches_of(folder, steps).iterate(0, workers),
        forever(lambda: reference(folder, workers, True)),
    ):
        skip = 4 * workers
        for _ in range(skip):
            next(batches)
        began, cpu_began = time.perf_counter(), cpu()
        for _ in range(steps - skip):
            next(batches)
        images = (steps - skip) * BATCH
        rates.append((images / (time.perf_counter() - began), images / (cpu() - cpu_began)))
        batches.close()
    return rates


def cpu() -> float:
    """CPU seconds of this process and of all it started, those that ended included."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    ended = times[0].children_user + times[0].children_system
    return ended + sum(t.user + t.system for t in times)


def forever(make):
    """The batches of one epoch after another."""
    while True:
        yield from make()


def report(kind: str, folder: Path, count: int, rounds: int, cores: int) -> dict[str, float]:
    files = sorted(folder.rglob("*.jpg"))[:count]
    size = sum(path.stat().st_size for path in files) / len(files)
    print(f"\n{kind}: {len(files)} JPEG files of {size / 2**20:.2f} MiB", flush=True)
    found, (worker, own) = in_process(files, rounds)
    for name, rates in found.items():
        print(f"  {name:22s} {statistics.median(rates):7.1f} images/s per core"
              f"   rounds {' '.join(f'{rate:.0f}' for rate in rates)}", flush=True)  # fmt: skip
    median = {name: statistics.median(rates) for name, rates in found.items()}
    ratios = {
        "ours / reference": median["ours"] / median["reference"],
        "ours / reference, uint8": median["ours"] / median["reference, uint8"],
        "loader's cost over bare decode": median["ours, bare decode"] / median["ours"] - 1,
        "the same, through a worker": median["ours, bare decode"] / median[THROUGH] - 1,
    }
    print(f"  an image costs a worker {worker * 1e6:.0f} us, and who takes it {own * 1e6:.0f} us; "
          f"extrapolated to {cores} cores, images/s by workers: "
          + ", ".join(f"{n}: {r:.0f}" for n, r in extrapolated(worker, own, cores).items()),
          flush=True)  # fmt: skip
    mean, worst = difference(files[:64])
    ratios |= {"pixel difference, mean of 255": mean, "pixel difference, worst image": worst}
    for name, value in ratios.items():
        print(f"  {name:32s} {value:.2f}", flush=True)
    return {f"{kind}: {name}": value for name, value in (ratios | median).items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", type=int, default=512, help="how many small images")
    parser.add_argument("--camera", type=int, default=64, help="how many large images; 0: none")
    parser.add_argument("--steps", type=int, default=120, help="batches, with workers")
    parser.add_argument("--cores", type=int, default=16, help="of another machine")
    parser.add_argument("--json", help="file for the numbers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    how = arguments.rounds, arguments.cores
    with tempfile.TemporaryDirectory() as made:
        small, camera = Path(made) / "small", Path(made) / "camera"
        photographs.write(small, arguments.small, photographs.SMALL)
        photographs.write(camera, arguments.camera, photographs.CAMERA)
        numbers = report("ImageNet-sized", small, arguments.small, *how)
        if arguments.camera:
            numbers |= report("camera-sized", camera, arguments.camera, *how)
        print("\nImageNet-sized, by the clock, with worker processes")
        for workers in (1, 2):
            (ours, ours_cpu), (theirs, _) = with_workers(str(small), arguments.steps, workers)
            print(
                f"  {workers} workers: ours {ours:.0f}, reference {theirs:.0f} images/s; "
                f"ours per core, of all processes {ours_cpu:.0f}",
                flush=True,
            )
            numbers |= {
                f"{workers} workers": ours,
                f"{workers} workers, per core": ours_cpu,
                f"{workers} workers, reference": theirs,
            }
        ratio = numbers["2 workers"] / numbers["1 workers"]
        numbers["two workers over one"] = ratio
        print(f"  ours, two workers over one: {ratio:.2f}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()

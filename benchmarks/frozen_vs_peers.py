"""What follows pre-training beside what people use for it: features, accuracy, nearest neighbours.

    make test-interop    # once, for torch, timm and torchvision
    .venv-interop/bin/python benchmarks/frozen_vs_peers.py [--size=base] [--only=embed,knn]

`mae-jax embed` and `mae-jax evaluate` on JPEG files of 500 x 375 pixels beside timm behind
PyTorch's DataLoader, with the same weights, all cores and float32; images a second are of what more
images take than fewer, so that starts and compilation are not counted. Weighted votes of the 20
nearest of 20,000 for 5,000 beside scikit-learn's. The sides take turns. Logistic regression is
scikit-learn's own here, so that there is nothing to compare; a step of fine-tuning is in
step_vs_pytorch.py.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import input_vs_pytorch  # noqa: F401  torchvision imports after it
import numpy as np
import photographs
import timm
import torch
from torchvision import datasets, transforms

import mae_jax
from mae_jax.config import default_config
from mae_jax.evaluation import knn

FEW, MANY = 64, 192  # images
BATCH = 64
CLASSES = 10
Side = Callable[[Path], None]  # goes through a folder's images once


def exported(folder: Path, size: str) -> Path:
    """A classifier of random parameters, as timm saves one."""
    model = timm.create_model(f"vit_{size}_patch16_224", num_classes=CLASSES)
    torch.nn.init.normal_(model.head.weight, std=0.02)
    timm.models.save_for_hf(model, folder, safe_serialization=True)
    return folder


def theirs(weights: Path, *, classify: bool) -> Side:
    """timm's model over a DataLoader, with workers as there are cores."""
    model = timm.create_model(f"local-dir:{weights}", pretrained=True).eval()
    view = transforms.Compose(
        [
            transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(model.default_cfg["mean"], model.default_cfg["std"]),
        ]
    )

    def run(images):
        files = datasets.ImageFolder(str(images), view)
        loader = torch.utils.data.DataLoader(files, BATCH, num_workers=len(os.sched_getaffinity(0)))
        right, features = 0, []
        with torch.inference_mode():
            for pixels, labels in loader:
                if classify:
                    right += int((model(pixels).argmax(1) == labels).sum())
                else:
                    features.append(model.forward_features(pixels).mean(1).numpy())

    return run


def ours_embed(weights: Path) -> Side:
    def run(images):
        with tempfile.TemporaryDirectory() as out:
            mae_jax.embed(weights, images=images, out=Path(out, "features.npz"))

    return run


def ours_evaluate(weights: Path) -> Side:
    def run(images):
        config = default_config()
        config.data.folder, config.data.eval_split = str(images), "all"
        mae_jax.evaluate(weights, config=config)

    return run


def rate(side: Side, few: Path, many: Path) -> float:
    """Images a second, of those that there are more of."""
    seconds = []
    for images in (few, many):
        began = time.perf_counter()
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            side(images)
        seconds.append(time.perf_counter() - began)
    return (MANY - FEW) / (seconds[1] - seconds[0])


def in_turns(name: str, unit: str, ours: Callable, peer: Callable, rounds: int) -> None:
    """Prints medians of both, and of their ratio, with its spread over rounds."""
    found: dict[str, list[float]] = {"ours": [], "peer": []}
    sides = {"ours": ours, "peer": peer}
    for number in range(rounds):
        for side in sorted(sides, reverse=bool(number % 2)):
            found[side].append(sides[side]())
    ratios = [a / b for a, b in zip(found["ours"], found["peer"], strict=True)]
    one, other = (statistics.median(found[side]) for side in ("ours", "peer"))
    print(
        f"{name}: ours {one:.3g}, theirs {other:.3g} {unit}; ratio {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )


def neighbours(rounds: int) -> None:
    """Both give the same answers, or this says so."""
    from sklearn.neighbors import KNeighborsClassifier

    rng, temperature = np.random.default_rng(0), 0.07  # as `knn.accuracy` has it
    middles = rng.standard_normal((CLASSES, 768), np.float32)
    labels = rng.integers(0, CLASSES, 25_000)
    rows = middles[labels] + 12 * rng.standard_normal((25_000, 768), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    bank, queries = rows[:20_000], rows[20_000:]
    of_bank, of_queries = labels[:20_000], labels[20_000:]
    right: dict[str, float] = {}

    def ours():
        began = time.perf_counter()
        right["ours"] = knn.accuracy(bank, of_bank, queries, of_queries, classes=CLASSES)
        return 5_000 / (time.perf_counter() - began)

    def peer():
        began = time.perf_counter()
        # Between features of length 1 the squared distance is 2 - 2 cosine.
        model = KNeighborsClassifier(
            20, weights=lambda d: np.exp(-(d**2) / 2 / temperature), algorithm="brute"
        ).fit(bank, of_bank)
        right["peer"] = float((model.predict(queries) == of_queries).mean())
        return 5_000 / (time.perf_counter() - began)

    ours()  # compiles
    in_turns("kNN, 5,000 among 20,000 x 768", "queries/s", ours, peer, rounds)
    print(f"right: ours {right['ours']:.4f}, theirs {right['peer']:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="base", choices=["tiny", "small", "base"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="embed,evaluate,knn")
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(f"{len(os.sched_getaffinity(0))} cores, torch {torch.__version__}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as held:
        root = Path(held)
        for name, count in (("few", FEW), ("many", MANY)):
            photographs.write(root / name, count, photographs.SMALL, classes=CLASSES)
        weights = exported(root / "weights", options.size)
        for name, ours in (("embed", ours_embed), ("evaluate", ours_evaluate)):
            if name in options.only.split(","):
                sides = ours(weights), theirs(weights, classify=name == "evaluate")
                for side in sides:
                    side(root / "few")  # what is done once in a process
                one, other = (
                    lambda side=side: rate(side, root / "few", root / "many") for side in sides
                )
                in_turns(f"{name}, ViT {options.size}", "images/s", one, other, options.rounds)
    if "knn" in options.only.split(","):
        neighbours(options.rounds)


if __name__ == "__main__":
    main()

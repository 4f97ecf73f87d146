"""Copies that are planted among Fashion-MNIST's 70,000 images, and the cost of the search.

    .venv/bin/python benchmarks/similar.py SOURCE --out=runs/similar

SOURCE is an encoder of 28 x 28 grey pixels, as configs/fashion/ablation.py trains in minutes. Of
25 training images each a JPEG, a crop, a mirror image and a brighter or darker one are put among
the test images. First what `mae-jax similar` says it finds, and what it found, by kind; then
seconds and memory of an exact and an approximate search among 100,000 random features of 768
dimensions.
"""

import argparse
import csv
import json
import multiprocessing
import resource
import time

import numpy as np

import mae_jax
from mae_jax.data import sources
from mae_jax.evaluation import planted
from mae_jax.inference import nearest
from mae_jax.inference.similar import similar

EACH = 25
TUNED = 10_000  # training images, from the first on, that thresholds were chosen on


def images(name: str, split: str, directory: str | None, count: int | None):
    """Of a split, with labels."""
    source = sources.TfdsSource(name, split, directory)
    picked = range(min(count or len(source), len(source)))
    found = [np.asarray(source[index].data) for index in picked]
    if found[0].dtype != np.uint8 or found[0].ndim < 2:
        from mae_jax.data.form import Form
        from mae_jax.data.images import decode

        found = [decode(source[index].data, Form(1), "image") for index in picked]
    made = np.stack([x.reshape(28, 28, 1) for x in found])
    return made, source.labels()[: len(made)], list(source.classes)


def plant(out: str, source: str, directory: str | None, count: int | None) -> None:
    """Plants, searches, and says what was found."""
    train, labels, classes = images("fashion_mnist", "train", directory, count)
    test, test_labels, _ = images("fashion_mnist", "test", directory, count)
    rng = np.random.default_rng(2026)
    chosen = rng.permutation(np.arange(min(TUNED, len(train) // 2), len(train)))
    copied, made = [], []
    for number, (kind, make) in enumerate(planted.KINDS.items()):
        for index in chosen[number * EACH : (number + 1) * EACH]:
            copied.append((kind, int(index)))
            made.append(make(train[index], rng))
    held_out = np.concatenate([test, made])
    held_labels = np.concatenate([test_labels, labels[[index for _, index in copied]]])
    began = time.perf_counter()
    found = similar(
        mae_jax.load_encoder(source, batch_size=1024),
        [
            ("train", sources.ArraySource(train, labels, classes)),
            ("test", sources.ArraySource(held_out, held_labels, classes)),
        ],
        out,
    )
    seconds = time.perf_counter() - began
    with open(found["table"]) as file:
        rows = list(csv.DictReader(file))
    leaks = {(row["a"], row["b"]): row for row in rows if row["kind"] == "leak"}
    right = {
        (f"train/array[{index}]", f"test/array[{len(test) + number}]"): kind
        for number, (kind, index) in enumerate(copied)
    }
    copies = {name for _, name in right}
    print(json.dumps(found, indent=1))
    print("kind         said    found")
    for kind in planted.KINDS:
        hits = sum(pair in leaks for pair, of in right.items() if of == kind)
        print(f"{kind:12s} {found['measures'][f'recall_{kind}']:.2f}    {hits} of {EACH}")
    touched = [pair for pair in leaks if pair[1] in copies]
    print(f"pairs with a planted copy: {len(touched)}, of them its original "
          f"{sum(pair in right for pair in touched)}")  # fmt: skip
    others = [row for row in rows if (row["a"], row["b"]) not in right]
    same = np.mean([row["class_a"] == row["class_b"] for row in others]) if others else 1
    print(f"other pairs: {len(others)}, of one class {same:.1%}, by bytes "
          f"{sum(row['by'] == 'bytes' for row in others)}")  # fmt: skip
    print(f"{seconds:.0f} s, peak {peak()} MiB")


def peak() -> int:
    """MiB that this process took at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def search(exact: bool, count: int, width: int) -> None:
    """Looks for the 10 nearest of every one; random features, but with clusters as images have."""
    rng = np.random.default_rng(0)
    middles = rng.standard_normal((count // 100, width), np.float32)
    vectors = np.repeat(middles, 100, axis=0)
    vectors += rng.standard_normal(vectors.shape, np.float32)
    space, before = nearest.Space(vectors), peak()
    vectors = space(vectors)
    began = time.perf_counter()
    bank = nearest.Bank(vectors, space, len(vectors), exact=exact)
    built = time.perf_counter() - began
    bank.nearest(vectors, 11, (0, len(vectors)))
    print(
        f"{'exact' if exact else 'approximate':12s} {count} x {width}: index {built:.0f} s, search "
        f"{time.perf_counter() - began - built:.0f} s, recall {bank.recall:.3f}, peak {peak()} MiB "
        f"({before} before), said {nearest.memory(count, width) // 2**20} MiB",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("--out", default="runs/similar")
    parser.add_argument("--dir", help="of tfds data")
    parser.add_argument("--images", type=int, help="of each split; all by default")
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--only", choices=("planted", "search"))
    flags = parser.parse_args()
    if flags.only != "search":
        plant(flags.out, flags.source, flags.dir, flags.images)
    if flags.only != "planted":
        for exact in (True, False):  # each in a process of its own, for its memory
            context = multiprocessing.get_context("spawn")
            process = context.Process(target=search, args=(exact, flags.vectors, 768))
            process.start()
            process.join()

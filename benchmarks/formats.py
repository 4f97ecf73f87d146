"""Images per second out of every format that images may lie in, beside the formats' own libraries.

    .venv/bin/pip install webdataset datasets && .venv/bin/python benchmarks/formats.py

The same JPEG files as a folder, a table, tar shards, Parquet files, a saved data set and a
prepared set. Twice: files as they are, read in a shuffled order; and training views of them,
decoded, cropped at random and resized. `webdataset` shuffles as it can, whole shards and a buffer
of 1000; `datasets` indexes at random what was saved, and what it made of the Parquet files, once,
before time is taken. Theirs are decoded and resized by Pillow, as both libraries do. One process,
the sides in turns, medians.
"""

import argparse
import csv
import os
import statistics
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import photographs
import webdataset
from PIL import Image

from mae_jax.data import augment, loader, order, prepare
from mae_jax.data.sources import FolderSource
from mae_jax.pixels import Pixels

SIDE = 224
FEW = 20
PICTURE = loader.Picture(Pixels((SIDE, SIDE), 3, crop=0.875), (0.2, 1.0), (3 / 4, 4 / 3), True)


def lying(root: Path, count: int, per_shard: int) -> dict[str, str]:
    """Where the images lie, by format."""
    photographs.write(root / "folder", count, (500, 375))
    files = sorted((root / "folder").rglob("*.jpg"))
    with (root / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        rows.writerows([str(path), path.parent.name] for path in files)
    (root / "shards").mkdir()
    pattern = str(root / "shards" / "%05d.tar")
    with webdataset.ShardWriter(pattern, maxcount=per_shard, verbose=0) as shards:
        for number, path in enumerate(files):
            label = path.parent.name
            shards.write({"__key__": f"{number:08d}", "jpg": path.read_bytes(), "cls": label})
    made = datasets.Dataset.from_dict(
        {"image": [{"bytes": p.read_bytes(), "path": None} for p in files],
         "label": [p.parent.name for p in files]},
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.Value("string")}),
    )  # fmt: skip
    made.save_to_disk(root / "saved")
    (root / "parquet").mkdir()
    made.to_parquet(root / "parquet" / "all.parquet")
    prepare.prepare(str(root / "folder"), str(root / "prepared"))
    names = ("folder", "table.csv", "shards", "parquet", "saved", "prepared")
    return {name.partition(".")[0]: str(root / name) for name in names}


def rate(images) -> float:
    """Images per second of an epoch, or of what is looked at of it."""
    began, seen = time.perf_counter(), 0
    for _ in images:
        seen += 1
    return seen / (time.perf_counter() - began)


def view(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """A random crop, resized and mirrored, by Pillow."""
    left, top, width, height = augment.random_box(image.height, image.width, rng)
    made = image.convert("RGB").resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + width, top + height)
    )
    return np.asarray(made)[:, :: 1 if rng.random() < 0.5 else -1]


def ours(place: str, epoch: int, views: bool):
    """Of Parquet files, of which every image wants a row group of 100 MB, only the first few."""
    source = FolderSource(place, "all")
    decode = loader.Decoder(source, PICTURE, cache=False)
    few = FEW if place.endswith("parquet") else len(source)
    for index in np.random.default_rng(epoch).permutation(len(source))[:few].tolist():
        if views:
            yield PICTURE.augmented(decode(index)[0], [order.view_rng(0, epoch, index)])
        else:
            yield source[index].data


def of_webdataset(place: str, epoch: int, views: bool):
    shards = sorted(str(path) for path in Path(place).iterdir())
    found = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=epoch).shuffle(1000)
    rng = np.random.default_rng(epoch)
    for sample in found.decode("pil", only=["jpg"]) if views else found:
        yield view(sample["jpg"], rng) if views else sample["jpg"]


def of_datasets(found, epoch: int, views: bool):
    rng = np.random.default_rng(epoch)
    found = found.cast_column("image", datasets.Image(decode=views))
    for index in rng.permutation(len(found)).tolist():
        image = found[index]["image"]
        yield view(image, rng) if views else image["bytes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--per_shard", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        places = lying(Path(folder), arguments.images, arguments.per_shard)
        made = datasets.load_dataset(
            "parquet", data_files=f"{places['parquet']}/*", split="train", cache_dir=folder
        )
        saved = datasets.load_from_disk(places["saved"])
        sides = {
            name: lambda epoch, views, place=place: ours(place, epoch, views)
            for name, place in places.items()
        } | {
            "webdataset, shards": lambda *a: of_webdataset(places["shards"], *a),
            "datasets, saved": lambda *a: of_datasets(saved, *a),
            "datasets, from parquet": lambda *a: of_datasets(made, *a),
        }
        print(f"{arguments.images} images; per second, medians of {arguments.rounds} rounds")
        print(f"{'':24}{'files':>10}{'views':>10}")
        rates = {name: ([], []) for name in sides}
        for epoch in range(arguments.rounds):
            for name, make in sides.items():
                for views, found in enumerate(rates[name]):
                    found.append(rate(make(epoch, bool(views))))
        for name, (files, views) in rates.items():
            line = f"{name:24}{statistics.median(files):>10.0f}{statistics.median(views):>10.0f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()

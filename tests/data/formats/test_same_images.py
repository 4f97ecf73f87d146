"""The same images in every format that they may lie in are the same batches."""

import csv
import io
import json
import multiprocessing
import os
import pickle
import runpy
import signal
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from mae_jax.config import default_config
from mae_jax.data import loader, prepare, sources
from mae_jax.pixels import Pixels
from mae_jax.train import loop, metrics
from mae_jax.train.checkpoints import checkpoint

PICTURE = loader.Picture(Pixels((8, 8), 3, crop=1.0), (0.3, 1.0), (3 / 4, 4 / 3), True)
FORMATS = ("csv", "jsonl", "parquet of paths", "tar", "shards", "parquet", "saved")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkey:
        monkey.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Forty images in two splits of two classes, as a folder."""
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for index in range(14 if split == "train" else 6):
                pixels = rng.integers(0, 256, (20, 24 + index, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index:02d}.jpg")
    return root


def rows(root):
    """Path, bytes, label and split of every image, in the order of their paths."""
    for path in sorted(root.rglob("*.jpg"), key=str):
        split, label, _ = path.relative_to(root).parts
        yield path.relative_to(root).as_posix(), path.read_bytes(), label, split


def as_format(kind, root, out):
    """The images of a folder in another format; returns where they lie."""
    out.mkdir(parents=True)
    if kind in ("csv", "jsonl", "parquet of paths"):
        return as_table(kind, root, out)
    if kind == "tar":
        with tarfile.open(out / "all.tar", "w") as tar:
            for name, data, _, _ in rows(root):
                add(tar, name, data)
        return out / "all.tar"
    if kind == "shards":
        for split in ("train", "val"):
            of = [row for row in rows(root) if row[3] == split]
            for number in range(2):
                with tarfile.open(out / f"{split}-{number:03d}.tar", "w") as tar:
                    for name, data, label, _ in of[number * 9 : len(of) if number else 9]:
                        key = name.removesuffix(".jpg").replace("/", "-")
                        add(tar, f"{key}.cls", label.encode())
                        add(tar, f"{key}.jpg", data)
        return out
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    made = datasets.DatasetDict(
        {
            split: datasets.Dataset.from_list(
                [
                    {"image": {"bytes": data, "path": None}, "label": ["cat", "dog"].index(label)}
                    for _, data, label, of in rows(root)
                    if of == split
                ],
                features=features,
            )
            for split in ("train", "val")
        }
    )
    if kind == "saved":
        made.save_to_disk(out / "saved")
        return out / "saved"
    for split, part in made.items():
        part.to_parquet(out / f"{split}-00000-of-00001.parquet", batch_size=10)
    return out


def as_table(kind, root, out):
    content = [
        {"path": str(root / name), "label": label, "split": split}
        for name, _, label, split in rows(root)
    ]
    place = out / f"table.{kind.partition(' ')[0]}"
    if kind == "csv":
        with place.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(content[0]))
            writer.writeheader()
            writer.writerows(content)
    elif kind == "jsonl":
        place.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(content), place)
    return place


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def lying(photographs, tmp_path_factory):
    """Where the images lie in a format, made once."""
    made = {"folder": photographs}

    def at(kind):
        if kind not in made:
            name = kind.replace(" ", "_")
            made[kind] = as_format(kind, photographs, tmp_path_factory.mktemp(name) / "of")
        return str(made[kind])

    return at


def opened(place, split):
    data = default_config().data
    data.folder = place
    return sources.open_source(data, split)


def batches(source, **changes):
    settings = dict(batch_size=8, seed=3, steps=9)
    return loader.TrainBatches(source, PICTURE, **settings | changes)


def assert_same(a, b):
    for name in ("image", "label"):
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("split", ["train", "val", "all[:70%]"])
def test_batches_are_those_of_the_folder(kind, split, lying):
    folder, same = opened(lying("folder"), split), opened(lying(kind), split)
    assert same.classes == folder.classes == ["cat", "dog"]
    np.testing.assert_array_equal(same.labels(), folder.labels())
    expected, made = batches(folder), batches(pickle.loads(pickle.dumps(same)))
    for step in range(9):
        assert_same(expected[step], made[step])
    # Of two hosts, after a resume at step 4.
    rows = [np.array([0, 1, 2, 3]), np.array([4, 5, 6, 7])]
    shares = [batches(same, rows=of).iterate(4, 0) for of in rows]
    for step, *parts in zip(range(4, 9), *shares, strict=True):
        joined = {n: np.concatenate([part[n] for part in parts]) for n in ("image", "label")}
        assert_same(expected[step], joined)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_prepared_is_the_folder_prepared(kind, lying, tmp_path):
    result = prepare.prepare(lying(kind), str(tmp_path / "set"), workers=1)
    assert result["records"] == 40 and result["broken"] == 0
    for split in ("train", "val", "all[:70%]"):
        of_folder, of_set = opened(lying("folder"), split), opened(str(tmp_path / "set"), split)
        assert of_set.classes == of_folder.classes
        assert_same(batches(of_folder)[5], batches(of_set)[5])
    assert prepare.prepare(lying(kind), str(tmp_path / "set"), workers=1) == result


@pytest.mark.parametrize("kind", FORMATS)
def test_fingerprints_tell_other_data(kind, lying):
    train, again, val = (opened(lying(kind), split) for split in ("train", "train", "val"))
    assert train.fingerprint() == again.fingerprint() != val.fingerprint()
    assert train.fingerprint()["records"] == 28
    json.dumps(train.fingerprint())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shards", "parquet", "saved"])
def test_worker_processes_change_nothing(kind, lying):
    expected, made = (batches(opened(lying(of), "train")) for of in ("folder", kind))
    for step, batch in enumerate(made.iterate(2, 2), 2):
        assert_same(expected[step], batch)


def trains(place, run, cache, tfds_dir, until):
    """A start in a process of its own, killed after step `until`; 0 to its end."""
    os.environ["XDG_CACHE_HOME"] = cache
    config = runpy.run_path(Path(__file__).parents[2] / "conftest.py")["small_config"](tfds_dir)
    config.data.name, config.data.folder = None, place
    config.data.split, config.data.eval_split, config.data.batch_size = "train", "val", 8
    config.model.depth, config.log.knn, config.log.eval_every_epochs = 1, False, 0.01

    def kill(step, measures):
        if step == until:
            os.kill(os.getpid(), signal.SIGKILL)

    loop.run(config, run, quiet=True, measured=kill)


@pytest.mark.slow
def test_runs_killed_and_resumed_are_those_of_the_folder(lying, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mae_jax.train.loop"])
    trained = {}
    for kind in ("folder", "csv", "shards", "parquet", "saved"):
        run = tmp_path / kind.replace(" ", "_")
        for until in (0,) if kind == "folder" else (5, 0):
            child = context.Process(
                target=trains,
                args=(lying(kind), run, os.environ["XDG_CACHE_HOME"], str(tmp_path), until),
            )
            child.start()
            child.join()
            assert child.exitcode == (-signal.SIGKILL if until else 0)
        told = [(row["step"], row["loss"]) for row in metrics.read(run) if "loss" in row]
        trained[kind] = told, checkpoint.read_model(run)["params"]
    assert [step for step, _ in trained["folder"][0]] == [*range(1, 9)]
    for told, model in trained.values():
        assert told == trained["folder"][0]
        jax.tree.map(np.testing.assert_array_equal, model, trained["folder"][1])

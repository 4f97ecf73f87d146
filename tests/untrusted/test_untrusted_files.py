"""Files that may be anything: each is read, or refused with a sentence.

Never a crash, a hang, more than 2 GB, a program that is started or a file that is written. Few
changed files of each kind in the suite; as many as are asked for with MAE_JAX_EXAMPLES=500.
"""

import csv
import dataclasses
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import pyarrow as pa
import pytest
import rasterio
from hypothesis import HealthCheck, Phase, given, settings
from made import random_weights
from PIL import Image
from pyarrow import parquet

from mae_jax.data import prepare
from mae_jax.inference import embedded
from mae_jax.train import loop
from mae_jax.train.checkpoints import manifest
from mae_jax.weights import export, pth

EXAMPLES = int(os.environ.get("MAE_JAX_EXAMPLES", 6))
SLOW = 6  # times as few of what takes a second to read
SETTINGS = dict(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


class Reader:
    """A process that reads files, and is started again where one was the end of it."""

    def __init__(self, log: Path):
        self._log, self._process = log, None
        self._ready: set[str] = set()  # readers that have imported what they need

    @property
    def alive(self) -> bool:
        return self._process is not None

    def prepare(self, case: "Case", path: Path) -> None:
        """Has a sound file read, by which a reader gets ready."""
        if case.reader == "run" and "run" in self._ready:
            return
        answer = self.ask(case.reader, path, sound=True)
        assert answer["outcome"] == case.sound, answer
        self._ready.add(case.reader)

    def ask(self, reader: str, path: Path, *, sound: bool = False) -> dict[str, Any]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("reading.py"))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log.open("w"),
                text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip
        self._process.stdin.write(json.dumps([reader, str(path), sound]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            code = self._process.wait()
            self.close()
            raise AssertionError(f"ended with {code}:\n{self._log.read_text()[-3000:]}")
        return json.loads(answer)

    def close(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process, self._ready = None, set()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    made = Reader(tmp_path_factory.mktemp("reader") / "log")
    yield made
    made.close()


Change = Callable[[bytes, list], bytes]


def as_bytes(data, edits):
    return mutations.changed(data, edits)


def as_json(data, edits):
    return json.dumps(mutations.changed_tree(json.loads(data), edits)).encode()


def as_png(data, edits):
    return mutations.png_with_checksums(mutations.changed(data, edits))


def member(suffix: str, change: Change) -> Change:
    """Of the first file in a zip archive whose name ends so."""

    def within(data, edits):
        made = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
            chosen = next(name for name in old.namelist() if name.endswith(suffix))
            for name in old.namelist():
                content = old.read(name)
                new.writestr(name, change(content, edits) if name == chosen else content)
        return made.getvalue()

    return within


def header(data, edits):
    """The header of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    made = as_json(data[8 : 8 + length], edits)
    return struct.pack("<Q", len(made)) + made + data[8 + length :]


def said_in_pth(data, edits):
    """What our own files say of themselves."""
    settings = random_weights().settings() | {"origin": {"classes": ["a"], "license": "x"}}
    path = Path("/dev/shm") / f"said-{os.getpid()}.pth"
    del data
    try:
        said = json.dumps(mutations.changed_tree(settings, edits))
        pth.write(path, random_weights().tensors, said)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class Case:
    """A kind of file.

    Attributes:
      name: of the kind.
      reader: in `reading`.
      make: writes a sound one below a folder; returns what is read, and the file to be changed.
      change: of its bytes.
      after: what is done once it was changed.
      sound: what becomes of the sound one.
    """

    name: str
    reader: str
    make: Callable[[Path], tuple[Path, Path]]
    change: Change = as_bytes
    after: Callable[[Path], None] = lambda path: None
    sound: str = "read"


def exported(format, file, kind="full"):
    def make(folder):
        export.export(random_weights(kind), folder / "out", format=format, force=True)
        (folder / "out" / "SHA256SUMS").unlink()
        path = folder / "out" / file
        alone = not (folder / "out" / "config.json").exists()
        return (path if alone else folder / "out"), path

    return make


def in_export(file, content=None):
    """A file beside weights."""

    def make(folder):
        export.export(random_weights(), folder / "out", format="huggingface", force=True)
        path = folder / "out" / file
        if content is not None:
            path.write_text(json.dumps(content))
        if file != "SHA256SUMS":
            (folder / "out" / "SHA256SUMS").unlink()
        return folder / "out", path

    return make


def picture(kind, mode="RGB", frames=1, **options):
    def make(folder):
        rng = np.random.default_rng(0)
        shape = {"RGB": (40, 50, 3), "L": (40, 50), "I;16": (40, 50), "F": (40, 50)}[mode]
        pixels = rng.integers(0, 255, shape).astype(
            {"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8)
        )
        first, *rest = [Image.fromarray(pixels)] * frames
        path = folder / "x"
        more = dict(save_all=True, append_images=rest) if rest else {}
        first.save(path, kind, **more | options)
        return path, path

    return make


def array(suffix):
    def make(folder):
        path = folder / f"x.{suffix}"
        pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 5), np.uint8)
        np.save(path, pixels) if suffix == "npy" else np.savez_compressed(path, image=pixels)
        return path, path

    return make


def large(**options):
    def make(folder):
        (folder / "scenes").mkdir()
        path, (y, x) = folder / "scenes" / "a.tif", np.mgrid[:70, :90]
        planes = np.stack([x + y, 2 * x, 255 - y]).astype(np.uint8)
        tiles = dict(tiled=True, blockxsize=32, blockysize=32) | options
        with rasterio.open(
            path, "w", driver="GTiff", height=70, width=90, count=3, dtype=np.uint8, nodata=0,
            **tiles,
        ) as file:  # fmt: skip
            file.write(planes)
            file.build_overviews([2], rasterio.enums.Resampling.nearest)
        return folder / "scenes", path

    return make


def photos(folder):
    for name in ("cat/0.png", "cat/1.png", "dog/2.png", "été.png"):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(path)


def table(folder):
    photos(folder)
    path = folder / "labels.csv"
    with path.open("w", newline="") as file:
        rows = [("name", "class", "note"), ("cat/0.png", "cat", ""), ("dog/2.png", "dog", "a, b")]
        csv.writer(file).writerows([*rows, ("été.png", "été", ""), ("cat/1.png", "", "")])
    return path, path


def prepared(file):
    def make(folder):
        photos(folder)
        prepare.prepare(str(folder / "photos"), str(folder / "set"), workers=1)
        (path,) = (folder / "set").glob(file)
        return folder / "set", path

    return make


def listed(name):
    def make(folder):
        photos(folder)
        rows = [
            {"path": f"photos/{path}", "label": label, "split": "train", "group": label}
            for path, label in (("cat/0.png", "cat"), ("dog/2.png", "dog"), ("cat/1.png", None))
        ]
        path = folder / name
        if name.endswith(".parquet"):
            parquet.write_table(pa.Table.from_pylist(rows), path)
        elif name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return path, path

    return make


def tar_shard(folder):
    photos(folder)
    path = folder / "train-0.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder / "photos", arcname="")
        label = tarfile.TarInfo("cat/0.cls")
        label.size = 3
        tar.addfile(label, io.BytesIO(b"cat"))
    return path, path


def in_columns(folder):
    photos(folder)
    rows = [
        {"image": {"bytes": path.read_bytes(), "path": None}, "label": path.parent.name}
        for path in sorted((folder / "photos").rglob("*.png"))
    ]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "train.parquet", row_group_size=2)
    return folder / "train.parquet", folder / "train.parquet"


def saved(file):
    def make(folder):
        import datasets

        photos(folder)
        paths = sorted((folder / "photos").rglob("*.png"))
        rows = [{"image": {"bytes": p.read_bytes(), "path": None}, "label": 1} for p in paths]
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
        )
        datasets.disable_progress_bars()
        datasets.Dataset.from_list(rows, features).save_to_disk(folder / "saved")
        (path,) = (folder / "saved").glob(file)
        return folder / "saved", path

    return make


def prepared_table(folder):
    table, _ = listed("t.csv")(folder)
    prepare.prepare(str(table), str(folder / "set"), workers=1)
    return folder / "set", folder / "set" / "said.json"


def features(folder):
    path = folder / "features.npz"
    made = embedded.Embedded(
        np.ones((3, 4), np.float32), ["a", "b", "c"], np.zeros(3, np.int32), ["x"],
        np.zeros(3, np.uint64), np.zeros(3, bool),
    )  # fmt: skip
    embedded.write(path, ".npz", {"weights": "x"}, made)
    return path, path


def tfds(file):
    def make(folder, tfds_dir):
        there = folder / "tfds" / "handmade" / "1.0.0"
        shutil.copytree(Path(tfds_dir) / "handwritten_digits" / "1.0.0", there)
        info = there / "dataset_info.json"
        info.write_text(info.read_text().replace("handwritten_digits", "handmade"))
        for path in there.glob("handwritten_digits*"):
            path.rename(there / path.name.replace("handwritten_digits", "handmade"))
        (path,) = there.glob(file)
        return folder / "tfds", path

    return make


def run(file):
    def make(folder, trained):
        shutil.copytree(trained, folder / "run")
        path = max((folder / "run").glob(file), key=lambda path: path.stat().st_size)
        return folder / "run", path

    return make


def with_right_checksums(path):
    step = next(folder for folder in path.parents if folder.parent.name == "checkpoints")
    (step / manifest.NAME).unlink()
    manifest.write(step)


INDEX = {"weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}
CASES = [
    Case("safetensors", "weights", exported("safetensors", "model.safetensors")),
    Case("safetensors: header", "weights", exported("safetensors", "model.safetensors"), header),
    Case("npz", "weights", exported("npz", "model.npz")),
    Case("npz: array", "weights", exported("npz", "model.npz"), member("pos_embed.npy", as_bytes)),
    Case("pth", "weights", exported("pth", "model.pth")),
    Case("pth: pickle", "weights", exported("pth", "model.pth"), member("data.pkl", as_bytes)),
    Case("pth: settings", "weights", exported("pth", "model.pth"), said_in_pth),
    Case("huggingface: config.json", "weights", in_export("config.json"), as_json),
    Case("huggingface: preprocessor", "weights", in_export("preprocessor_config.json"), as_json),
    Case(
        "huggingface: index", "weights", in_export("model.safetensors.index.json", INDEX), as_json
    ),
    Case("huggingface: bytes of config.json", "weights", in_export("config.json")),
    Case("timm: config.json", "weights", exported("timm", "config.json", "encoder"), as_json),
    Case("list of checksums", "weights", in_export("SHA256SUMS")),
    Case("card", "weights", in_export("README.md")),
    Case("jpeg", "images", picture("JPEG")),
    Case("jpeg, progressive", "images", picture("JPEG", progressive=True)),
    Case("png", "images", picture("PNG"), as_png),
    Case("png, 16 bits", "images", picture("PNG", "I;16"), as_png),
    Case("webp", "images", picture("WEBP")),
    Case("bmp", "images", picture("BMP")),
    Case("gif, frames", "images", picture("GIF", "L", 3)),
    Case("tiff", "images", picture("TIFF")),
    Case("tiff, packed", "images", picture("TIFF", compression="tiff_adobe_deflate")),
    Case("tiff, lzw", "images", picture("TIFF", compression="tiff_lzw")),
    Case("tiff, jpeg", "images", picture("TIFF", compression="jpeg")),
    Case("tiff, floats", "images", picture("TIFF", "F")),
    Case("tiff, pages", "images", picture("TIFF", "L", 5)),
    Case("tiff, windows", "windows", large()),
    Case("tiff, windows, packed", "windows", large(compress="deflate")),
    Case("tiff, windows, jpeg", "windows", large(compress="jpeg", photometric="YCBCR")),
    Case("npy image", "images", array("npy")),
    Case("npz image", "images", array("npz")),
    Case("npz image: array", "images", array("npz"), member("image.npy", as_bytes)),
    Case("table of labels", "table", table),
    Case("prepared: dataset.json", "folder", prepared("dataset.json"), as_json),
    Case("prepared: names.json", "folder", prepared("names.json"), as_json),
    Case("prepared: shard", "folder", prepared("*.array_record")),
    Case("prepared: said.json", "folder", prepared_table, as_json),
    *(Case(f"table: {end}", "folder", listed(f"t.{end}")) for end in ("csv", "jsonl", "parquet")),
    Case("tar shard", "folder", tar_shard),
    Case("parquet of images", "folder", in_columns),
    Case("saved: state.json", "folder", saved("state.json"), as_json),
    Case("saved: dataset_info.json", "folder", saved("dataset_info.json"), as_json),
    Case("saved: arrow", "folder", saved("*.arrow")),
    Case("features", "features", features),
    Case("features: array", "features", features, member("features.npy", as_bytes)),
    Case("tfds: dataset_info.json", "tfds", tfds("dataset_info.json"), as_json),
    Case("tfds: features.json", "tfds", tfds("features.json"), as_json),
    Case("tfds: shard", "tfds", tfds("*train.array_record*")),
    Case("run: config.json", "run", run("config.json"), as_json),
    Case("run: metrics.jsonl", "run", run("metrics.jsonl")),
    Case("run: manifest", "run", run("checkpoints/*/manifest.json")),
    *(
        Case(f"run: {file}", "run", run(f"checkpoints/*/{file}"), change, with_right_checksums)
        for file, change in (
            ("_CHECKPOINT_METADATA", as_json),
            ("position/metadata", as_json),
            ("model/_METADATA", as_json),
            ("model/_sharding", as_json),
            ("model/manifest.ocdbt", as_bytes),
            ("model/ocdbt.process_0/manifest.ocdbt", as_bytes),
            ("model/d/*", as_bytes),
            ("model/ocdbt.process_0/d/*", as_bytes),
        )
    ),
]


@pytest.fixture(scope="module")
def trained(new_digits_config, tmp_path_factory):
    folder, config = tmp_path_factory.mktemp("trained") / "run", new_digits_config()
    config.train.steps, config.log.panel_every_epochs = 2, 10.0
    loop.run(config, folder, quiet=True)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_file_is_read_or_refused_with_a_sentence(case, reader, request, tmp_path):
    fixtures = {"tfds": "tfds_dir", "run": "trained"}
    given_too = [request.getfixturevalue(fixtures[case.reader])] if case.reader in fixtures else []
    path, file = case.make(tmp_path, *given_too)
    reader.prepare(case, path)
    data, outcomes = file.read_bytes(), Counter()

    @settings(max_examples=max(1, EXAMPLES // (SLOW if case.reader == "run" else 1)), **SETTINGS)
    @given(mutations.TREE_EDITS if is_tree(case.change) else mutations.edits())
    def read(edits):
        if not reader.alive:  # after what was the end of it
            file.write_bytes(data)
            case.after(file)
            reader.prepare(case, path)
        file.write_bytes(case.change(data, edits))
        case.after(file)
        answer = reader.ask(case.reader, path)
        outcomes[answer["outcome"]] += 1
        assert answer["outcome"] in ("read", "refused"), answer["text"]
        assert not answer["did"], answer
        if answer["outcome"] == "refused":
            assert answer["text"].strip() and answer["text"].isprintable(), answer["text"]
            assert not answer["memory"], answer["text"]

    try:
        read()
    finally:
        print(f"{case.name}: {dict(outcomes)}")


def is_tree(change):
    return change in (as_json, header, said_in_pth)

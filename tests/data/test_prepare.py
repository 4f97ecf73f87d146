import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from mae_jax import cli
from mae_jax.data import loader, prepare, sources
from mae_jax.data.sources import FolderSource
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.pixels import Pixels

PICTURE = loader.Picture(Pixels((8, 8), 3, crop=1.0), (0.3, 1.0), (3 / 4, 4 / 3), True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixty noisy images in two splits of two classes, one of which is broken."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for index in range(15):
                pixels = rng.integers(0, 256, (40, 50 + index, 3), np.uint8)
                name = f"{index:02d}.{'png' if index % 5 == 0 else 'jpg'}"
                Image.fromarray(pixels).save(root / split / label / name)
    (root / "train" / "dog" / "07.jpg").write_bytes(b"nothing")
    return root


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """That folder prepared, in shards of about ten images."""
    out = tmp_path_factory.mktemp("made") / "set"
    monkey = pytest.MonkeyPatch()
    monkey.setattr(prepare, "_plan", plan)
    result = prepare.prepare(str(folder), str(out), workers=1)
    monkey.undo()
    return out, result


def plan(files, _):
    bounds = [*range(0, len(files), 10), len(files)]
    pairs = list(itertools.pairwise(bounds))
    return [prepare.Shard(n, len(pairs), *pair) for n, pair in enumerate(pairs)]


def test_a_prepared_set_is_its_folder(folder, made, capsys):
    out, result = made
    assert result["records"] == 59 and result["broken"] == 1 and result["shards"] == 6
    about = json.loads((out / "dataset.json").read_text())
    assert about["broken"][0].startswith("train/dog/07.jpg: ")
    assert not (out / ".parts").exists()
    for split in ("train", "val", "all"):
        before, after = FolderSource(str(folder), split), FolderSource(str(out), split)
        assert after.classes == before.classes
        kept = [i for i in range(len(before)) if before.name(i) != "train/dog/07.jpg"]
        assert [after.name(i) for i in range(len(after))] == [before.name(i) for i in kept]
        np.testing.assert_array_equal(after.labels(), before.labels()[kept])
        for place in (0, len(kept) // 2, len(kept) - 1):
            assert after[place].data == before[kept[place]].data
    assert FolderSource(str(out), "train").fingerprint()["records"] == 29


def test_the_set_is_the_same_by_processes(folder, tmp_path, made):
    _, result = made
    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(prepare, "_plan", plan)
        again = prepare.prepare(str(folder), str(tmp_path / "set"), workers=2)
    assert again["fingerprint"] == result["fingerprint"]


def test_an_interrupted_preparation_goes_on(folder, tmp_path, monkeypatch, made):
    monkeypatch.setattr(prepare, "_plan", plan)
    made_shards, write = [], prepare.prepared.write_shard

    def counted(path, records):
        if len(made_shards) == 4:
            raise KeyboardInterrupt
        made_shards.append(path.name)
        return write(path, records)

    monkeypatch.setattr(prepare.prepared, "write_shard", counted)
    out = str(tmp_path / "set")
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(str(folder), out, workers=1)
    with pytest.raises(UsageError, match="is the beginning of a prepared set"):
        FolderSource(out, "all")
    with pytest.raises(UsageError, match="prepared otherwise.* Different are: shrink: None -> 9"):
        prepare.prepare(str(folder), out, workers=1, shrink=9)
    made_shards[:] = made_shards[:0]
    result = prepare.prepare(str(folder), out, workers=1)
    assert len(made_shards) == 2 and result == made[1] | {"out": out}
    assert prepare.prepare(str(folder), out) == result  # complete already


def test_shrinking_keeps_aspect_and_leaves_small_ones(tmp_path):
    (tmp_path / "in").mkdir()
    sizes = {"wide.jpg": (400, 200), "small.jpg": (60, 50), "tall.png": (100, 300)}
    for name, size in sizes.items():
        Image.new("RGB", size, "teal").save(tmp_path / "in" / name)
    deep = np.full((200, 200), 40_000, np.uint16)
    Image.fromarray(deep).save(tmp_path / "in" / "deep.png")
    prepare.prepare(str(tmp_path / "in"), str(tmp_path / "out"), shrink=64, workers=1)
    source = FolderSource(str(tmp_path / "out"), "all")
    decode = loader.Decoder(source, PICTURE, cache=False)
    found = {source.name(i): decode(i)[0] for i in range(4)}
    assert (found["wide.jpg"].width, found["wide.jpg"].height) == (128, 64)
    assert (found["small.jpg"].width, found["tall.png"].height) == (60, 192)
    assert found["deep.png"].width == 200
    np.testing.assert_allclose(PICTURE.plain(found["wide.jpg"])[0, 0], [0, 128, 128], atol=4)


def test_arrays_and_unlabelled_images_are_prepared(tmp_path):
    (tmp_path / "in").mkdir()
    bands = np.arange(4 * 4 * 5, dtype=np.uint8).reshape(4, 4, 5)
    np.save(tmp_path / "in" / "a.npy", bands)
    np.savez(tmp_path / "in" / "b.npz", bands)
    prepare.prepare(str(tmp_path / "in"), str(tmp_path / "out"), workers=1)
    source = FolderSource(str(tmp_path / "out"), "all")
    assert not source.classes and source[1].label == sources.NO_LABEL
    assert cli.main(["mae-jax", "data", "check", str(tmp_path / "out")]) == 0
    picture = loader.Picture(Pixels((4, 4), 5, crop=1.0))
    decode = loader.Decoder(source, picture, cache=False)
    for index in range(2):
        np.testing.assert_array_equal(picture.plain(decode(index)[0]), bands)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_shard_cut_short_is_refused_at_once(made, tmp_path, share):
    import shutil

    shutil.copytree(made[0], tmp_path / "set")
    shard = sorted((tmp_path / "set").glob("*.array_record"))[2]
    os.truncate(shard, int(shard.stat().st_size * share))
    with pytest.raises(UsageError, match=f"shard {shard.name} has .* bytes, and .* were written"):
        FolderSource(str(tmp_path / "set"), "all")
    shard.unlink()
    with pytest.raises(UsageError, match=f"shard {shard.name} is missing"):
        FolderSource(str(tmp_path / "set"), "all")


@pytest.mark.parametrize("file", ["../set/{}", "{}/../{}", "/etc/passwd", "..", "a\0b", 7])
def test_a_set_names_shards_of_its_folder_alone(made, tmp_path, file):
    shutil.copytree(made[0], tmp_path / "set")
    about = json.loads((tmp_path / "set" / "dataset.json").read_text())
    entry = about["shards"][0]
    entry["file"] = file.replace("{}", entry["file"]) if isinstance(file, str) else file
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(UsageError, match="dataset.json is damaged|is missing"):
        FolderSource(str(tmp_path / "set"), "all")


def test_flipped_bytes_are_found_when_read(made, tmp_path):
    import shutil

    shutil.copytree(made[0], tmp_path / "set")
    source = FolderSource(str(tmp_path / "set"), "all")
    whole = [source[i].data for i in range(len(source))]
    shard = sorted((tmp_path / "set").glob("*.array_record"))[1]
    content = bytearray(shard.read_bytes())
    at = content.find(whole[15][200:260])
    assert at > 0
    content[at] ^= 1
    shard.write_bytes(content)
    source = FolderSource(str(tmp_path / "set"), "all")
    broken = []
    for index in range(len(source)):
        try:
            assert source[index].data == whole[index]
        except BrokenRecord as error:
            broken.append((index, str(error)))
    assert [index for index, _ in broken] == [15]
    assert source.name(15) in broken[0][1] and shard.name in broken[0][1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "ACTION (prepare, check, stats) is missing"),
        (["repair"], "data 'repair' is unknown; known are prepare, check, stats"),
        (["prepare"], "FOLDER is missing; it is needed by mae-jax data prepare"),
        (["prepare", "FOLDER"], "--out is missing"),
        (["prepare", "nowhere", "--out=x"], "'nowhere' is neither a folder nor a file"),
        (["prepare", "FOLDER", "--out=FOLDER/in"], "lies in the folder of images"),
        (["prepare", "FOLDER", "--out=x", "--shrink=0"], "--shrink 0 must be at least 1"),
        (["check"], "exactly one of FOLDER and --config must be given"),
    ],
)
def test_mistakes_are_one_sentence(folder, capsys, arguments, message):
    arguments = [a.replace("FOLDER", str(folder)) for a in arguments]
    assert cli.main(["mae-jax", "data", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_commands(folder, made, capsys, tmp_path):
    out = str(tmp_path / "set")
    assert cli.main(["mae-jax", "data", "prepare", str(folder), f"--out={out}", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["records"] == 59
    assert "60/60 images (100%)" in captured.err and "eta" in captured.err
    assert "broken, left out: train/dog/07.jpg: " in captured.err
    assert cli.main(["mae-jax", "data", "check", out, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["broken"] == 0 and found["images_per_second_per_core"] > 0
    assert cli.main(["mae-jax", "data", "check", str(folder)]) == 3
    captured = capsys.readouterr()
    assert "broken: train/dog/07.jpg: " in captured.err and "images_per_second" in captured.out
    assert cli.main(["mae-jax", "data", "stats", out, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # Uniform noise, softened by resampling.
    np.testing.assert_allclose(found["mean"], 0.5, atol=0.02)
    assert found["images"] == 59 and all(0.05 < value < 0.3 for value in found["std"])


@pytest.mark.slow
def test_killed_preparation_goes_on(folder, tmp_path, made):
    out = tmp_path / "set"
    program = f"""
import sys, time
sys.path.insert(0, {os.path.dirname(__file__)!r})
import test_prepare
from mae_jax.data import prepare
from mae_jax.pixels import Pixels
prepare._plan = test_prepare.plan
write = prepare.prepared.write_shard
def slow(path, records):
    time.sleep(0.3)
    return write(path, records)
prepare.prepared.write_shard = slow
prepare.prepare({str(folder)!r}, {str(out)!r}, workers=1)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    while process.poll() is None and len(list(out.glob("*.array_record"))) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stderr.close()
    before = {p.name: p.stat().st_mtime_ns for p in (out / ".parts").glob("images*.json")}
    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(prepare, "_plan", plan)
        result = prepare.prepare(str(folder), str(out), workers=1)
    assert before and result["fingerprint"] == made[1]["fingerprint"]


def test_beam_makes_the_same_set(folder, tmp_path, made, monkeypatch):
    pytest.importorskip("apache_beam")
    monkeypatch.setattr(prepare, "_plan", plan)
    from mae_jax.data import beam

    result = prepare.prepare(
        str(folder), str(tmp_path / "set"), run=beam.runner("--runner=DirectRunner")
    )
    assert result["fingerprint"] == made[1]["fingerprint"]


def test_beam_that_is_missing_is_asked_for(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    arguments = ["prepare", str(folder), "--out=nowhere", "--beam=--runner=DirectRunner"]
    assert cli.main(["mae-jax", "data", *arguments]) == 2
    assert "pip install 'mae_jax[beam]'" in capsys.readouterr().err

"""Whatever folder or config somebody has: it trains, or ends with one sentence and its code.

In the suite a few examples of each; all of them with MAE_JAX_EXAMPLES=100.
"""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mae_jax import cli
from mae_jax.commands import flags, verbs
from mae_jax.config.schema import all_keys
from mae_jax.train.task import prepare

EXAMPLES = settings(
    max_examples=int(os.environ.get("MAE_JAX_EXAMPLES", 12)),
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # an example takes seconds: too long to shrink
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SMALL = {
    "model.image_size": "(8,8)", "model.patch_size": "(4,4)", "model.width": "16",
    "model.depth": "1", "model.heads": "2", "model.decoder_width": "16",
    "model.decoder_depth": "1", "model.decoder_heads": "2", "data.batch_size": "8",
    "data.workers": "0", "train.steps": "1", "train.epochs": "None", "train.warmup_epochs": "0",
    "log.tensorboard": "False", "log.knn_neighbours": "1", "parallel.tensor": "1",
}  # fmt: skip


def outcome(capsys, folder, config, changes):
    """The exit code, which a sentence explains where it is not 0."""
    workdir = folder / "run"
    flags = [f"--config.{name}={value}" for name, value in (SMALL | changes).items()]
    code = cli.main(["mae-jax", "pretrain", f"--config={config}", f"--workdir={workdir}", *flags])
    err = capsys.readouterr().err
    said = [line for line in err.splitlines() if line.startswith("mae-jax: ")]
    assert code in (0, 2, 3), err
    assert len(said) == (code != 0) and "Traceback" not in err, err
    return code


NAMES = st.one_of(
    st.sampled_from(
        ["train", "val", "test", "all", "val 2", "train.v2", "Été", "cat", "dog", "x.jpg", ".git",
         "a'b", 'a"b', "a[b]", "a+b", "%20", "~", "-n", "日本", "new\nline", "\udcff"]
    ),
    st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), min_size=1,
            max_size=12).filter(lambda name: name not in (".", "..")),
)  # fmt: skip
SUFFIXES = st.sampled_from(["jpg", "JPG", "png", "tif", "webp", "bmp", "gif", "npy", "npz", "txt"])
KINDS = st.sampled_from(
    ["sound"] * 6 + ["cut", "empty", "text", "eps", "other", "folder", "link", "loop", "nowhere"]
)
ENTRIES = st.lists(
    st.tuples(st.lists(NAMES, max_size=3), NAMES, SUFFIXES, KINDS), min_size=0, max_size=24
)
SPLITS = st.sampled_from(["all", "all[:80%]", "train", "val", "'val 2'", "all[", "all[50%:]", ""])


def encoded(suffix, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)
    buffer = io.BytesIO()
    if suffix == "npy":
        np.save(buffer, pixels)
    elif suffix == "npz":
        np.savez(buffer, image=pixels)
    else:
        formats = {"jpg": "JPEG", "tif": "TIFF"}
        Image.fromarray(pixels).save(buffer, formats.get(suffix.lower(), suffix.upper()))
    return buffer.getvalue()


def write(root: Path, entries):
    for number, (parents, name, suffix, kind) in enumerate(entries):
        folder = root.joinpath(*parents)
        path = folder / f"{name}.{suffix}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                path.mkdir(exist_ok=True)
                continue
            if kind in ("link", "loop", "nowhere"):
                path.symlink_to({"link": root, "loop": path, "nowhere": root / "gone"}[kind])
                continue
            whole = encoded("png" if suffix == "txt" else suffix, number)
            path.write_bytes(
                {
                    "sound": whole,
                    "cut": whole[: len(whole) // 2],
                    "empty": b"",
                    "text": b"not an image",
                    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
                    "other": encoded("png", number),
                }[kind]
            )
        except (OSError, ValueError):
            continue  # a name that this file system refuses, or has already


@pytest.mark.slow
@EXAMPLES
@given(
    entries=ENTRIES, split=SPLITS, eval_split=st.one_of(st.none(), SPLITS), share=st.floats(0, 1)
)
def test_any_folder(capsys, tmp_path_factory, entries, split, eval_split, share):
    folder = tmp_path_factory.mktemp("any")
    (folder / "images").mkdir()
    write(folder / "images", entries)
    changes = {
        "data.folder": folder / "images", "data.split": split, "data.eval_split": eval_split,
        "data.broken_share": share,
    }  # fmt: skip
    outcome(capsys, folder, "configs/folder.py", changes)


# How long a run is stays as it is here: a right answer to a thousand million steps is to begin.
FIXED = ("data.dir", "init_from", "train.steps", "train.epochs")
KEYS = {name: key for name, key in all_keys() if name not in FIXED}
VALUES = st.sampled_from(
    ["None", "0", "1", "-1", "2", "3", "0.5", "40", "1e-9", "nan", "inf", "True", "False", "()",
     "(1,)", "(0.5,0.5)", "(1,2,3)", "('a',)", "a", "", "random", "block", "grid", "classify",
     "probe", "reconstruct", "float32", "uint8", "lars", "token", "8", "test[:8]"]
)  # fmt: skip


LIKELY = {
    int: ["1", "2", "3", "4", "8"], float: ["0.3", "0.5", "0.9", "1", "2"],
    bool: ["True", "False"], tuple: ["(8,8)", "(4,4)", "(0.5,1)", "(2,2)", "()", "(0.5,)"],
}  # fmt: skip


@st.composite
def some_changes(draw):
    """A few keys at once, most of them with a value of their kind."""
    changes = {}
    for name in draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=4, unique=True)):
        key = KEYS[name]
        words = key.range.removeprefix("one of ").split(", ") if key.type is str else []
        likely = st.sampled_from([*LIKELY.get(key.type, words), str(key.default)])
        changes[name] = draw(st.one_of(likely, likely, likely, VALUES))
    return changes


@pytest.mark.slow
@EXAMPLES
@given(changes=some_changes())
@example(changes={"data.std": "('a',)"})
@example(changes={"data.crop_scale": "(0.5,'x')"})
@example(changes={"data.batch_size": "100000000"})
@example(changes={"train.beta1": "1"})
def test_any_config(capsys, tmp_path_factory, tfds_dir, changes):
    folder = tmp_path_factory.mktemp("any")
    given = {
        "data.dir": tfds_dir, "data.split": "train[:16]", "data.eval_split": "test[:8]",
        "model.patch_size": "(4,4)",
    }  # fmt: skip
    outcome(capsys, folder, "configs/digits.py", given | changes)


@pytest.mark.parametrize("length", [{"train.steps": "1000000000"}, {"train.epochs": "1e9"}])
def test_any_length_begins(tfds_dir, length):
    parsed = flags.parse(
        verbs()["pretrain"],
        ["mae-jax", "--config=configs/digits.py", "--workdir=w", f"--config.data.dir={tfds_dir}",
         "--config.train.steps=None", "--config.train.epochs=None",
         *(f"--config.{name}={value}" for name, value in length.items())],
    )  # fmt: skip
    assert prepare(parsed["config"], 8).steps >= 10**9

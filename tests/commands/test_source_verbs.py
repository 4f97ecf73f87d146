"""The verbs that take a SOURCE, and `init_from` of every kind."""

import json
import re

import numpy as np
import pytest
from made import random_weights
from PIL import Image

import mae_jax
from mae_jax import cli
from mae_jax.train import loop
from mae_jax.weights import card, export, pth, start


def call(capsys, *arguments):
    code = cli.main(["mae-jax", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def model(tmp_path):
    """A folder with a small model of 32 x 32 RGB images."""
    export.export(random_weights(), tmp_path / "model", format="safetensors")
    return tmp_path / "model"


def test_pictures(capsys, tmp_path, model, photos):
    panel, seen = tmp_path / "panel.png", tmp_path / "seen.png"
    code, out, err = call(
        capsys, "reconstruct", model, f"--images={photos}", f"--out={panel}", "--mask_ratio=0.5",
        "--sampling=block", "--seed=3",
    )  # fmt: skip
    assert code == 0, err
    assert "loss" in out and Image.open(panel).width > 500
    one = next(photos.rglob("*.png"))
    code, out, err = call(capsys, "features", model, f"--images={one}", f"--out={seen}",
                          "--image_size=48x64", "--json")  # fmt: skip
    assert code == 0 and json.loads(out)["images"] == 1, err
    width, height = Image.open(seen).size
    assert width > height > 150


def test_export_and_embed(capsys, tmp_path, model, photos):
    out = tmp_path / "out"
    code, text, err = call(capsys, "export", model, "--format=timm", f"--out={out}")
    assert code == 0, err
    assert re.search(r"sha256 +[0-9a-f]{64}  model.safetensors", text)
    features = tmp_path / "f.npz"
    code, text, err = call(capsys, "embed", out, f"--images={photos / 'temple'}",
                           f"--out={features}", "--channels=1")  # fmt: skip
    assert code == 0 and "images_per_second" in text, err
    with np.load(features) as file:
        assert file["features"].shape[1] == 64 and np.isfinite(file["features"]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "--format=npz", "--out=x"], "SOURCE is missing"),
        (["export", "MODEL", "--out=x"], "--format is missing"),
        (["export", "MODEL", "--format=xls", "--out=x"], "format 'xls' is unknown"),
        (["export", "nowhere", "--format=npz", "--out=x"], "'nowhere' does not exist; known are"),
        (["export", "MODEL", "--format=timm", "--part=full", "--out=x"], "give --part=encoder"),
        (["export", "MODEL", "--format=npz", "--out=x", "--heads=8"], "heads 8 was given, but"),
        (["export", "MODEL", "--format=npz", "--out=x", "--image_size=big"], "must be one number"),
        (["export", "MODEL", "--format=npz", "--out=x", "--channels=1"], "give --part=encoder"),
        (["embed", "MODEL", "--out=x.npz"], "exactly one of --images and --config"),
        (["export", "MODEL", "--format=onnx", "--part=full", "--out=x"], "give --part=encoder"),
        (["export", "nowhere", "--format=xls", "--out=x"], "format 'xls' is unknown"),
        (["embed", "MODEL", "--out=x.npz", "--images=nowhere"], "'nowhere' are neither a folder"),
        (["embed", "MODEL", "--out=x.csv", "--images=IMAGES"], "must end in one of .npz, .parquet"),
        (["embed", "MODEL", "--out=x.npz", "--images=IMAGES", "--output=all"], "output 'all'"),
        (["reconstruct", "MODEL", "--images=IMAGES", "--out=x.gif"], "must end in .png"),
        (["reconstruct", "MODEL", "--images=IMAGES", "--out=x.png", "--mask_ratio=1"], "mask_rat"),
        (["reconstruct", "MODEL", "--images=IMAGES", "--out=x.png", "--sampling=odd"], "sampling"),
        (["reconstruct", "MODEL", "--images=IMAGES", "--out=x.png", "--channels=1"], "channels"),
        (["features", "MODEL", "--images=IMAGES", "--out=/proc/x.png"], "cannot be written"),
        (["features", "MODEL", "EXTRA", "--images=IMAGES", "--out=x.png"], "'EXTRA' is not a flag"),
    ],
)
def test_mistakes(capsys, tmp_path, monkeypatch, model, photos, arguments, message):
    monkeypatch.chdir(tmp_path)
    told = [a.replace("MODEL", str(model)).replace("IMAGES", str(photos)) for a in arguments]
    code, out, err = call(capsys, *told)
    lines = [line for line in err.splitlines() if line.startswith("mae-jax: ")]
    assert code == 2 and out == "" and len(lines) == 1 and message in lines[0], err
    assert [path.name for path in tmp_path.iterdir() if path.name != "model"] == []


def test_timm_gets_what_it_can_hold(capsys, tmp_path):
    for kind, held in (("full", "encoder"), ("classifier", "classifier")):
        # A bare file, which says nothing of the decoder's heads: they are not needed.
        pth.write(tmp_path / f"{kind}.pth", random_weights(kind).tensors, "")
        code, out, err = call(capsys, "export", tmp_path / f"{kind}.pth", "--format=timm",
                              "--heads=4", f"--out={tmp_path / kind}", "--json")  # fmt: skip
        assert code == 0, err
        expected = {"tensors": 42 + 2 * (kind == "classifier"), "part": held}
        assert json.loads(out).items() >= expected.items()


def test_work_folders(capsys, tmp_path, digits_config):
    workdir = tmp_path / "run"
    loop.run(digits_config, workdir, quiet=True)
    loaded = mae_jax.load(workdir)
    assert loaded.dimensions.channels == 1 and loaded.norm_pix
    assert mae_jax.load(workdir, step=8).dimensions == loaded.dimensions
    code, _, err = call(capsys, "export", workdir, "--format=npz", f"--out={tmp_path / 'e'}",
                        "--step=3")  # fmt: skip
    assert code == 2 and "has no checkpoint of step 3" in err
    code, _, err = call(capsys, "export", workdir, "--format=npz", f"--out={tmp_path / 'e'}")
    assert code == 0, err
    card = (tmp_path / "e" / "README.md").read_text()
    for words in ("8 of 8", "eval_loss", "handwritten_digits", '"mask_ratio": 0.75'):
        assert words in card
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())
    if len(steps) > 1:
        code, _, err = call(capsys, "export", workdir, "--format=npz", f"--step={steps[0]}",
                            f"--out={tmp_path / 'half'}")  # fmt: skip
        assert code == 2 and f"trained for {steps[0]} of 8 steps" in err


@pytest.mark.parametrize("format", ["pth", "huggingface", "timm", "npz"])
def test_init_from_any_kind(tmp_path, digits_config, format):
    arguments = dict(
        image_size=(8, 8), patch_size=2, channels=1, width=16, depth=2, heads=2,
        decoder_width=16, decoder_depth=1, decoder_heads=2,
    )  # fmt: skip
    weights = random_weights(**arguments)
    export.export(weights, tmp_path / "source", format=format, part="encoder", license="mit")
    config = digits_config
    config.init_from, config.train.steps, config.train.base_lr = str(tmp_path / "source"), 1, 1e-12
    for name in ("width", "heads", "patch_size"):
        config.model[name] = None
    start.adopt(config, tmp_path / "run")
    assert (config.model.width, config.model.heads, config.model.patch_size) == (16, 2, (2, 2))
    loop.run(config, tmp_path / "run", quiet=True, read_weights=start.read_weights)
    weights_of_run = mae_jax.load_encoder(tmp_path / "run").weights
    written = card.text(weights_of_run, "npz", {})
    assert "license: mit" in written and f"| started from | {tmp_path / 'source'} |" in written
    trained = weights_of_run.tensors
    for name, value in weights.encoder().tensors.items():
        np.testing.assert_allclose(trained[name], value, atol=1e-6)

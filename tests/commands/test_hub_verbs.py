"""Verbs on weights by name, and `mae-jax export --push`."""

import json
import os
import subprocess
import sys

import hub_stand_in
import numpy as np
import pytest
from made import random_weights
from PIL import Image

from mae_jax import cli
from mae_jax.weights import export, read


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    with hub_stand_in.running() as running:
        hub_stand_in.connect(monkeypatch, running, tmp_path / "cache")
        yield running


@pytest.fixture
def model(tmp_path):
    """A folder with a small model of 32 x 32 RGB images."""
    export.export(random_weights(), tmp_path / "model", format="safetensors", license="mit")
    return tmp_path / "model"


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def call(capsys, *arguments):
    code = cli.main(["mae-jax", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_features_from_the_hub_then_offline(stand_in, model, picture, tmp_path):
    stand_in.add("owner/vit", model)
    environment = os.environ | hub_stand_in.environment(stand_in, tmp_path / "home")

    def features(out, **more):
        return subprocess.run(
            [sys.executable, "-m", "mae_jax.cli", "features", "hf:owner/vit", f"--images={picture}",
             f"--out={tmp_path / out}", "--json"],
            env=environment | more, capture_output=True, text=True,
        )  # fmt: skip

    done = features("one.png")
    assert done.returncode == 0 and json.loads(done.stdout)["images"] == 1, done.stderr
    assert stand_in.fetched().count("model.safetensors") == 1
    stand_in.asked.clear()
    done = features("two.png", HF_HUB_OFFLINE="1")
    assert done.returncode == 0 and stand_in.asked == [], done.stderr
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_features_of_images_say_what_they_were_made_from(
    capsys, stand_in, model, picture, tmp_path
):
    commit, out = stand_in.add("owner/vit", model), tmp_path / "features.npz"
    embed = ("embed", "hf:owner/vit", f"--images={picture}", f"--out={out}")
    code, _, err = call(capsys, *embed)
    assert code == 0, err
    with np.load(out) as file:
        assert json.loads(str(file["identity"]))["source"] == f"hf:owner/vit@{commit}"
    stand_in.add("owner/vit", {"README.md": b"x", **files(model)})
    code, _, err = call(capsys, *embed)
    assert code == 0, err  # another commit, of the same weights


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "README.md"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:vit", "'vit' must be OWNER/NAME"),
        ("hf:owner/none", "is private: look at its spelling"),
        ("hf:owner/gated", "is gated: ask for access at http"),
        ("hf:owner/vit@v9", "has no revision 'v9'"),
        ("hf:owner/bert", "holds a 'bert' model; known are"),
    ],
)
def test_mistakes(capsys, stand_in, model, picture, tmp_path, source, message):
    stand_in.add("owner/vit", model)
    stand_in.add("owner/gated", model, gated=True)
    stand_in.add("owner/bert", {"config.json": b'{"model_type": "bert"}'})
    code, out, err = call(
        capsys, "features", source, f"--images={picture}", f"--out={tmp_path / 'x.png'}"
    )
    lines = [line for line in err.splitlines() if line.startswith("mae-jax: ")]
    assert code == 2 and out == "" and len(lines) == 1 and message in lines[0], err


def test_push(capsys, stand_in, model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub_stand_in.TOKEN)
    code, out, err = call(
        capsys, "export", model, "--format=timm", f"--out={tmp_path / 'timm'}",
        "--push=owner/new-vit", "--json",
    )  # fmt: skip
    assert code == 0, err
    repository = stand_in.repositories["owner/new-vit"]
    there = repository.commits[repository.refs["main"]]
    assert there.pop(".gitattributes")
    assert there == {path.name: path.read_bytes() for path in (tmp_path / "timm").iterdir()}
    pushed = json.loads(out)["pushed"]
    assert pushed == f"hf:owner/new-vit@{repository.refs['main']}"
    assert read.read(pushed).origin["license"] == "mit"
    # The same format again takes the place of what is there; another one would lie beside it.
    for number, format in enumerate(("timm", "pth")):
        code, _, err = call(
            capsys, "export", model, f"--format={format}", f"--out={tmp_path / str(number)}",
            "--push=owner/new-vit",
        )  # fmt: skip
        assert code == 2 * number, err
    assert "has config.json, model.safetensors of another export, which would be mixed up" in err
    assert f"and `hf upload owner/new-vit {tmp_path / '1'}` pushes it" in err
    assert len(repository.commits) == 3


@pytest.mark.parametrize(
    ("repository", "token", "message", "written"),
    [
        ("vit", "hf_right", "--push=vit: 'vit' must be OWNER/NAME", False),
        ("owner/vit", None, "--push=owner/vit needs a token of http", False),
        ("owner/vit", "hf_wrong", "does not let this token do that (401)", False),
        ("other/vit", "hf_right", "does not let this token do that (403)", True),
    ],
)
def test_pushes_that_may_not_be(
    capsys, stand_in, model, tmp_path, monkeypatch, repository, token, message, written
):
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    out = tmp_path / "out"
    code, _, err = call(
        capsys, "export", model, "--format=npz", f"--out={out}", f"--push={repository}"
    )
    assert code == 2 and message in err and out.exists() is written, err
    assert stand_in.repositories == {}

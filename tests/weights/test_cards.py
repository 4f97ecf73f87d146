"""What a card says of how its files are loaded is so; StableHLO wants jax and flatbuffers."""

import dataclasses
import importlib.util
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from made import ODD, SMALL, random_weights

from mae_jax.errors import UsageError
from mae_jax.weights import export, load, read, snippets
from mae_jax.weights.pretrained import PretrainedClassifier

# jax takes some packages if they are there: here there is nothing but what it needs.
ALONE = """
import sys
from importlib import metadata
packages = metadata.packages_distributions()
here = {"jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy", "flatbuffers"}
class Alone:
    def find_spec(self, name, path=None, target=None):
        if here.isdisjoint(packages.get(name.partition(".")[0], here)):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Alone())
"""


def run(folder, code):
    program = f"{code}\nimport sys\nprint(' '.join(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.split()


def code_of(folder):
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return code


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "classifier"])
def test_stablehlo_computes_the_same_with_jax_and_flatbuffers_alone(tmp_path, kind):
    weights = random_weights(kind, **ODD)
    if kind == "classifier":
        weights.origin["classes"] = [f"class {i}" for i in range(7)]
    made = export.export(weights, tmp_path / "out", format="stablehlo")
    assert made["part"] == ("encoder" if kind == "full" else "classifier")
    images = np.random.default_rng(0).random((5, 48, 64, 5), np.float32)
    np.save(tmp_path / "out" / "images.npy", images)
    code = re.sub(r"images = .*", "images = np.load('images.npy')", code_of(tmp_path / "out"))
    run(tmp_path / "out", f"{ALONE}{code}\nnp.savez('values.npz', **values)")
    found = np.load(tmp_path / "out" / "values.npz")
    if kind == "classifier":
        expected = {"logits": PretrainedClassifier(weights).logits(images)}
        assert "0. class 0\n1. class 1\n" in (tmp_path / "out" / "README.md").read_text()
        assert '"class 6"' in (tmp_path / "out" / "model.json").read_text()
    else:
        encoder = load.encoder_of(weights)
        expected = {name: encoder(images, name) for name in ("mean", "token", "patches")}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-6 * np.abs(value).max())


def test_without_flatbuffers_there_is_no_stablehlo(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", {}.get)
    with pytest.raises(UsageError, match=r"needs flatbuffers; pip install 'mae_jax\[stablehlo\]'"):
        export.export(random_weights("encoder"), tmp_path / "out", format="stablehlo")
    assert not any(tmp_path.iterdir())


def test_a_head_of_zeros_is_no_difference(tmp_path):
    weights = random_weights("classifier")
    weights.tensors["head.weight"] *= 0
    weights.tensors["head.bias"] *= 0
    assert export.export(weights, tmp_path / "out", format="stablehlo")["part"] == "classifier"


def test_stablehlo_is_for_every_platform(tmp_path):
    export.export(random_weights("encoder"), tmp_path / "out", format="stablehlo")
    exported = jax.export.deserialize(bytearray((tmp_path / "out/model.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert str(exported.in_avals[0].shape) == "(batch, 32, 32, 3)"


@pytest.mark.slow
@pytest.mark.parametrize("format", ["safetensors", "npz"])
def test_a_cards_lines_load_what_lies_there(tmp_path, format):
    weights = random_weights("full", **SMALL)
    export.export(weights, tmp_path / "out", format=format)
    assert "mae_jax" in run(
        tmp_path / "out", f"{code_of(tmp_path / 'out')}\nassert len(tensors) > 9"
    )


def test_every_format_says_how_it_is_loaded():
    for format in export.FORMATS:
        for kind in ("full", "encoder", "classifier"):
            code = "\n".join(snippets.of(random_weights(kind), format))
            assert code.count("```") == 2 and "{" not in code.replace('{"images": images}', "")


@pytest.mark.parametrize("format", ["safetensors", "huggingface", "npz", "pth"])
def test_nothing_says_where_files_lie_on_this_machine(tmp_path, format):
    weights = random_weights("full", **SMALL)
    data = {"folder": "/home/ada/secret/PHOTOS/,hf:ada/cats", "labels": "../ada/labels.csv"}
    data |= {"dir": "~/ada", "mixture": (("/mnt/ada/one", 0.5), ("cifar10", 0.5)), "split": "all"}
    data |= {"name": r"C:\Users\ada\two", "url": "gs://bucket/three", "batch_size": 4}
    weights.origin.update(
        source="/home/ada/runs/cats",
        classes=["/m/01yrx", "../dog"],
        config={
            "data": data,
            "init_from": "/home/ada/base.pth",
            "model": {"target": "/ada/t.py:f"},
        },
    )
    weights = dataclasses.replace(weights, sampling="/home/ada/my_masks.py:lines")
    export.export(weights, tmp_path / "out", format=format)
    for path in (tmp_path / "out").iterdir():
        assert not re.search(rb"/ada\b|\\\\ada|ada/(?!cats)", path.read_bytes()), path.name
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| source | cats |" in card and "| started from | base.pth |" in card
    back = read.read(tmp_path / "out")
    assert back.sampling == "my_masks.py:lines" and back.origin["classes"] == ["/m/01yrx", "../dog"]
    assert back.origin["config"]["data"] == {
        "folder": "PHOTOS,hf:ada/cats", "labels": "labels.csv", "dir": "ada", "split": "all",
        "mixture": [["one", 0.5], ["cifar10", 0.5]], "name": "two", "url": "gs://bucket/three",
        "batch_size": 4,
    }  # fmt: skip
    assert weights.origin["source"] == "/home/ada/runs/cats"  # what is exported stays as it was


@pytest.mark.parametrize("format", export.GRAPHS)
def test_a_graph_holds_no_decoder(tmp_path, format):
    with pytest.raises(UsageError, match=f"--format={format} holds no decoder"):
        export.export(random_weights(), tmp_path / "out", format=format, part="full")

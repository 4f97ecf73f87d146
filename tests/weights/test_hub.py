"""Weights by name, from a stand-in for the Hugging Face hub and from a cache."""

import json
import re
import sys
from pathlib import Path

import hub_stand_in
import numpy as np
import pytest
from made import random_weights, same
from safetensors.numpy import save_file

import mae_jax
from mae_jax import config as config_lib
from mae_jax.commands.pretrain import pretrain
from mae_jax.config import default_config, named
from mae_jax.errors import UsageError
from mae_jax.train import workdir
from mae_jax.weights import card, export, hub, huggingface, pth, read, start

NAME = "hf:owner/vit"


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    with hub_stand_in.running() as running:
        hub_stand_in.connect(monkeypatch, running, tmp_path / "cache")
        yield running


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder of every format that is read, of one encoder, by format."""
    root, weights = tmp_path_factory.mktemp("exported"), random_weights()
    for format in ("huggingface", "timm", "safetensors", "pth", "npz"):
        export.export(weights, root / format, format=format, part="encoder", license="mit")
    return root


@pytest.fixture
def offline(monkeypatch):
    from huggingface_hub import constants

    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def encoder():
    return random_weights().encoder().tensors


@pytest.mark.parametrize("format", ["huggingface", "timm", "safetensors", "pth", "npz"])
def test_every_format_by_name_then_from_the_cache(stand_in, exported, offline, format):
    commit = stand_in.add("owner/vit", exported / format)
    found = read.read(NAME)
    assert same(found.tensors, encoder())
    assert found.settings() == read.read(exported / format).settings()
    assert found.origin["source"] == f"{NAME}@{commit}" and found.origin["license"] == "mit"
    (digest,) = found.origin["sha256"].values()
    assert digest in (exported / format / "SHA256SUMS").read_text()
    stand_in.asked.clear()
    assert same(read.read(f"{NAME}@{commit}").tensors, encoder())
    assert stand_in.asked == []  # nothing is asked of a commit that is there
    offline()
    again = read.read(NAME)
    assert again.origin == found.origin and stand_in.asked == []
    written = card.text(again, "npz", {})
    assert f"| source | {NAME}@{commit} |" in written and "license: mit" in written


def test_only_what_is_needed_is_fetched(stand_in, exported):
    files = {path.name: path.read_bytes() for path in (exported / "huggingface").iterdir()}
    others = dict.fromkeys(("pytorch_model.bin", "tf_model.h5", "model.onnx", "a/b.npz"), b"x")
    stand_in.add("owner/vit", files | others)
    mae_jax.load_encoder(NAME)
    assert sorted(stand_in.fetched()) == sorted(files)


def test_pickles_where_there_are_no_safetensors(stand_in, exported):
    """A transformers folder of before safetensors, with its index of tensors in a `.bin`."""
    files = {path.name: path.read_bytes() for path in (exported / "huggingface").iterdir()}
    del files["model.safetensors"], files["SHA256SUMS"]
    tensors = huggingface.keymap.to_huggingface(encoder())
    path = exported / "old.bin"
    pth.write(path, {n.removeprefix("vit."): t for n, t in tensors.items()}, "")
    stand_in.add("owner/vit", files | {"pytorch_model.bin": path.read_bytes()})
    found = read.read(NAME)
    assert same(found.tensors, encoder()) and list(found.origin["sha256"]) == ["pytorch_model.bin"]


def test_shards(stand_in, exported, offline, tmp_path):
    files = {path.name: path.read_bytes() for path in (exported / "huggingface").iterdir()}
    del files["model.safetensors"], files["SHA256SUMS"]
    tensors = huggingface.keymap.to_huggingface(encoder())
    tensors, where = {n.removeprefix("vit."): t for n, t in tensors.items()}, {}
    for part in range(2):
        name = f"model-0000{part + 1}-of-00002.safetensors"
        some = dict(list(tensors.items())[part::2])
        save_file(some, tmp_path / name)
        files[name] = (tmp_path / name).read_bytes()
        where |= dict.fromkeys(some, name)
    files["model.safetensors.index.json"] = json.dumps({"weight_map": where}).encode()
    stand_in.add("owner/vit", files)
    assert same(read.read(NAME).tensors, encoder())
    offline()
    assert len(read.read(NAME).origin["sha256"]) == 2
    del files["model-00002-of-00002.safetensors"]
    commit = stand_in.add("owner/half", files)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set, and the cache, .* lacks it"):
        read.read(f"hf:owner/half@{commit}")


def test_a_shard_that_lacks(stand_in, exported):
    files = {path.name: path.read_bytes() for path in (exported / "huggingface").iterdir()}
    index = {"weight_map": {"x": "model-1.safetensors"}}
    del files["model.safetensors"]
    stand_in.add("owner/vit", files | {"model.safetensors.index.json": json.dumps(index).encode()})
    with pytest.raises(UsageError, match="^'?hf:owner/vit@.*names 'model-1.safetensors', which is"):
        read.read(NAME)


def test_one_file_of_another_name(stand_in, exported):
    content = (exported / "pth" / "model.pth").read_bytes()
    stand_in.add("owner/vit", {"mae_pretrain_vit_tiny.pth": content, "notes.txt": b"x"})
    found = read.read(NAME)
    assert same(found.tensors, encoder())
    stand_in.add("owner/vit", {"a.pth": content, "b.pth": content})
    with pytest.raises(UsageError, match="several files of weights, a.pth, b.pth, and nothing"):
        read.read(NAME)


def test_branches_tags_and_commits(stand_in, exported, offline):
    first = stand_in.add("owner/vit", exported / "timm")
    stand_in.repositories["owner/vit"].refs |= {"v1": first, "refs/pr/3": first}
    second = stand_in.add("owner/vit", exported / "npz")
    assert hub.pinned(f"{NAME}@v1") == f"{NAME}@v1@{first}"
    assert hub.pinned(f"{NAME}@refs/pr/3") == f"{NAME}@refs/pr/3@{first}"
    assert hub.pinned(NAME) == f"{NAME}@{second}"
    noted = read.read(f"{NAME}@v1").origin["source"]
    assert noted == f"{NAME}@v1@{first}" and list(read.read(noted).origin["sha256"]) == [
        "model.safetensors"
    ]
    offline()
    assert hub.pinned(f"{NAME}@v1") == noted


def test_a_token_opens_what_is_private(stand_in, exported, monkeypatch):
    stand_in.add("owner/vit", exported / "timm", private=True)
    with pytest.raises(UsageError, match="or is private: look at its spelling, or log in"):
        read.read(NAME)
    monkeypatch.setenv("HF_TOKEN", hub_stand_in.TOKEN)
    assert same(read.read(NAME).tensors, encoder())


def files_of(config, **others):
    return {"config.json": json.dumps(config).encode()} | others


UNKNOWN = {
    "a missing repository": (None, {}, "is not at http.*/owner/vit, or is private"),
    "a gated one": ({}, dict(gated=True), "is gated: ask for access at http.*/owner/vit"),
    "no weights": ({"README.md": b"x"}, {}, "has no weights to read: .*, and it has README.md"),
    "nothing but flax": (
        files_of({"model_type": "vit"}, **{"flax_model.msgpack": b"x"}), {},
        "has no weights to read: .* has config.json, flax_model.msgpack",
    ),
    "another model of transformers": (
        files_of({"model_type": "bert"}), {}, "holds a 'bert' model; known are 'vit'",
    ),
    "another model of timm": (
        files_of({"architecture": "resnet50"}), {}, "holds timm's 'resnet50'; known are its ViTs",
    ),
    "a damaged config": ({"config.json": b"{"}, {}, "config.json' is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_cannot_be_had(stand_in, kind):
    files, access, message = UNKNOWN[kind]
    if files is not None:
        stand_in.add("owner/vit", files, **access)
    with pytest.raises(UsageError, match=message) as error:
        read.read(NAME)
    assert re.search("owner(/|--)vit", str(error.value)) and "\n" not in str(error.value)
    assert not any("safetensors" in name for name in stand_in.fetched())


@pytest.mark.parametrize("revision", ["v9", "0" * 40])
def test_unknown_revisions(stand_in, exported, revision):
    stand_in.add("owner/vit", exported / "timm")
    with pytest.raises(UsageError, match=f"has no revision '{revision}'; give a branch"):
        read.read(f"{NAME}@{revision}")


def test_a_token_that_is_wrong(stand_in, exported, monkeypatch):
    stand_in.add("owner/vit", exported / "timm")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UsageError, match=r"does not let this token do that \(401\); log in with"):
        read.read(NAME)


def test_a_hub_that_is_down(stand_in, exported, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's tries
    stand_in.add("owner/vit", exported / "timm")
    stand_in.status = 503
    with pytest.raises(UsageError, match="answers 503: .*, and the cache, .* lacks it"):
        read.read(NAME)


def test_no_network(monkeypatch, tmp_path, exported):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with hub_stand_in.running() as running:
        hub_stand_in.connect(monkeypatch, running, tmp_path / "cache")
        commit = running.add("owner/vit", exported / "timm")
        read.read(NAME)
    assert read.read(NAME).origin["source"] == f"{NAME}@{commit}"  # what the cache has will do
    with pytest.raises(UsageError, match="'hf:owner/new': http.* cannot be reached, and the cache"):
        read.read("hf:owner/new")


def test_offline_and_not_in_the_cache(stand_in, offline):
    offline()
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set, and the cache, '.*', lacks it"):
        read.read(NAME)
    assert stand_in.asked == []


def test_offline_it_is_not_guessed_how_pixels_are_prepared(stand_in, exported, offline):
    """A cache that another program filled, with the model and not its preprocessor."""
    from huggingface_hub import hf_hub_download

    stand_in.add("owner/vit", exported / "huggingface")
    for name in ("config.json", "model.safetensors"):
        hf_hub_download("owner/vit", name)
    offline()
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set, and the cache"):
        read.read(NAME)


@pytest.mark.parametrize(
    "name",
    ["hf:", "hf:vit", "hf:owner/", "hf:a/b/c", "hf://owner/vit", "hf:owner/vit@", "hf:../etc",
     "hf:owner/vit@a b", "hf:owner/vit@a@b", "hf:owner/vit@../x", "hf:a/b--c", "hf:owner/vit.git"],
)  # fmt: skip
def test_malformed_names(name):
    with pytest.raises(UsageError, match="must be (hf:)?OWNER/NAME"):
        read.read(name)


def test_what_is_noted_is_the_same_source():
    commit, other = "a" * 40, "b" * 40
    for asked, noted, same_source in (
        (NAME, f"{NAME}@{commit}", True),
        (f"{NAME}@v1", f"{NAME}@v1@{commit}", True),
        (f"{NAME}@{commit}", f"{NAME}@v1@{commit}", True),
        (f"{NAME}@{other}", f"{NAME}@v1@{commit}", False),
        (f"{NAME}@v2", f"{NAME}@v1@{commit}", False),
        (f"{NAME}2", f"{NAME}@{commit}", False),
        (NAME, "runs/x", False),
        (NAME, None, False),
    ):
        assert named.same(asked, noted) is same_source
        assert not named.is_name(noted) or str(named.parse(noted)) == noted


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"'hf:o/n' needs .*; pip install 'mae_jax\[hub\]'"):
        read.read("hf:o/n")


def test_steps_are_of_work_folders():
    with pytest.raises(UsageError, match="step 3 needs a work folder, and 'hf:o/n' is none"):
        read.read("hf:o/n", step=3)


def begun(folder, config):
    """A work folder with a checkpoint, by its names alone."""
    with workdir.claim(folder, config.to_dict()):
        pass
    (folder / "checkpoints" / "1").mkdir(parents=True)
    (folder / "checkpoints" / "1" / "manifest.json").touch()
    return folder


def test_a_run_keeps_the_commit_it_started_from(stand_in, exported, tmp_path, monkeypatch):
    """The name may come to mean other weights: the same command still resumes, offline too."""
    commit = stand_in.add("owner/vit", exported / "timm")

    def pinned(source, *folders):
        config = default_config()
        config.init_from = source
        start.pin(config, folders)
        return config

    run = begun(tmp_path / "run", pinned(f"{NAME}@main", tmp_path / "run"))
    noted = f"{NAME}@main@{commit}"
    assert workdir.read_config(run)["init_from"] == noted
    later = stand_in.add("owner/vit", exported / "npz")
    stand_in.asked.clear()
    for source in (f"{NAME}@main", f"{NAME}@{commit}", noted):
        assert pinned(source, tmp_path / "none", run).init_from == noted
        # As in a run that is called without `pin`.
        asked = workdir.read_config(run) | {"init_from": source}
        assert config_lib.differences(workdir.read_config(run), asked) == {}
    assert stand_in.asked == []
    assert pinned(NAME, run).init_from == f"{NAME}@{later}"
    other = workdir.read_config(run) | {"init_from": f"{NAME}@{later}"}
    assert config_lib.differences(workdir.read_config(run), other).keys() == {"init_from"}
    read.read(noted)
    assert read._license(run) == "mit"  # of what it started from, by the card in the cache
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert read._license(run) is None


@pytest.mark.slow
def test_a_run_from_a_name(stand_in, digits_config, tmp_path):
    arguments = dict(
        image_size=(8, 8), patch_size=2, channels=1, width=16, depth=2, heads=2,
        decoder_width=16, decoder_depth=1, decoder_heads=2,
    )  # fmt: skip
    weights = random_weights(**arguments)
    export.export(weights, tmp_path / "source", format="timm", license="mit")
    commit = stand_in.add("owner/vit", tmp_path / "source")
    digits_config.init_from, digits_config.train.steps = NAME, 1
    digits_config.train.base_lr = 1e-12
    pretrain(digits_config, tmp_path / "run", quiet=True)
    encoder = mae_jax.load_encoder(tmp_path / "run")
    written = card.text(encoder.weights, "npz", {})
    assert "license: mit" in written and f"| started from | {NAME}@{commit} |" in written
    for name, value in weights.encoder().tensors.items():
        if name != "pos_embed":  # fixed in pre-training
            np.testing.assert_allclose(encoder.weights.tensors[name], value, atol=1e-6)


def test_the_cache_of_the_library_is_used(stand_in, exported, tmp_path):
    commit = stand_in.add("owner/vit", exported / "timm")
    fetched = hub.fetch(NAME)
    assert fetched.path == tmp_path / "cache" / "models--owner--vit" / "snapshots" / commit
    assert isinstance(fetched.path, Path) and fetched.name == f"{NAME}@{commit}"
    features = mae_jax.load_encoder(NAME)(np.zeros((1, 32, 32, 3), np.uint8))
    assert features.shape == (1, 64)

import functools
import json
import shutil

import numpy as np
import pytest
from made import random_weights
from PIL import Image
from safetensors.numpy import load_file, save_file

from mae_jax.config import default_config
from mae_jax.errors import UsageError
from mae_jax.evaluation import attentive
from mae_jax.studies import probe
from mae_jax.weights import export, read, start

SMALL = dict(image_size=8, patch_size=2, channels=1, width=16, depth=1, heads=2)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Two encoders with random weights, in timm's and in transformers' format."""
    root, made = tmp_path_factory.mktemp("encoders"), []
    for seed, form in enumerate(("timm", "huggingface")):
        weights = random_weights("classifier", pool="token", seed=seed, **SMALL).encoder()
        export.export(weights, root / form, format=form, part="encoder")
        made.append(str(root / form))
    return made


def quick_attention(monkeypatch):
    quick = functools.partial(attentive.Recipe, updates=5, epochs=1)
    monkeypatch.setattr(attentive, "Recipe", quick)


@pytest.fixture
def config(digits_config):
    config = digits_config
    config.data.eval_split, config.data.eval_crop = "test[:50]", 1.0
    config.model.width = config.model.heads = None
    config.train.objective, config.model.pool, config.train.steps = "probe", "token", 2
    config.train.optimizer = "lars"
    return config


def test_two_encoders_in_other_formats_appear_in_the_table(encoders, config, tmp_path, monkeypatch):
    quick_attention(monkeypatch)
    result = probe.compare(encoders, config, tmp_path, methods=probe.METHODS)
    rows = json.loads((tmp_path / "comparison.json").read_text())
    assert rows == result["encoders"]
    assert [row["encoder"] for row in rows] == ["timm", "huggingface"]
    for row in rows:
        assert row["output"] == "token" and row["width"] == 16
        for method in probe.METHODS:
            assert 0 < row[method]["mean"] <= 1
        # Even random features of digits say something about them.
        assert row["logistic"]["mean"] > 0.4
    table = (tmp_path / "comparison.md").read_text()
    assert "| timm | " in table and "| huggingface | " in table
    titles = (
        "logistic | logistic, whitened | kNN | kNN, centred | kNN, standardised | kNN, whitened"
    )
    assert f"| {titles} | attentive | linear (LARS) |" in table


def test_the_same_call_again_computes_no_features_again(encoders, config, tmp_path, monkeypatch):
    first = probe.compare(encoders[:1], config, tmp_path, methods=("knn",))
    monkeypatch.setattr("mae_jax.weights.load.PretrainedEncoder.__call__", None)
    assert probe.compare(encoders[:1], config, tmp_path, methods=("knn",)) == first


def test_where_no_size_is_said_encoders_get_their_own(encoders, config, tmp_path):
    said = probe.compare(encoders[:1], config, tmp_path / "said", methods=("knn",))
    config.model.image_size = None
    assert (
        probe.compare(encoders[:1], config, tmp_path, methods=("knn",))["encoders"]
        == (said["encoders"])
    )


def test_few_labels_have_draws(encoders, config, tmp_path):
    config.data.labels_per_class = 2
    rows = probe.compare(encoders[:1], config, tmp_path, methods=("knn",), draws=3)["encoders"]
    assert len(set(rows[0]["knn"]["accuracies"])) > 1 and rows[0]["knn"]["deviation"] > 0
    assert "±" in probe.markdown(rows)


def test_a_broken_image_is_left_out(encoders, config, tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "images"
    for index in range(40):
        path = folder / "ab"[index % 2] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = rng.integers(0, 100, (8, 8)) + 100 * (index % 2)
        Image.fromarray(grey.astype(np.uint8)).save(path)
    data = config.data
    data.name, data.folder, data.split, data.eval_split = None, str(folder), "all[:20]", "all[20:]"
    (folder / "a" / "02.png").write_bytes(b"nothing")
    rows = probe.compare(encoders[:1], config, tmp_path / "out")["encoders"]
    assert rows[0]["logistic"]["mean"] == rows[0]["knn"]["mean"] == 1


def test_probes_that_cannot_be(encoders, config, tmp_path):
    def fails(match, sources=tuple(encoders), **options):
        with pytest.raises(UsageError, match=match):
            probe.compare(sources, config, tmp_path, **options)

    fails("SOURCE is missing", sources=())
    fails("method 'svm' is unknown; known are logistic, logistic_whitened, knn, ", methods=("svm",))
    fails("--layers=0: 0 is no block; they are 1 to 1", layers=(0,), methods=("knn",))
    fails("--layers=2: 2 is no block", layers=(2,), methods=("linear",))
    fails(
        "--queries=5 must be a divisor of the encoder's width, 16",
        methods=("attentive",),
        queries=5,
    )
    fails(
        "--whiten adds to the methods logistic and knn, and of these",
        methods=("linear",),
        whiten=True,
    )
    fails("--draws=0 must be at least 1", draws=0)
    config.data.labels_per_class = 99
    fails("labels_per_class 99 is more than")
    config.data.labels_per_class, config.train.objective = None, "classify"
    fails("method 'linear' needs train.objective 'probe'", methods=("linear",))
    config.data.eval_split = None
    fails("a probe needs data.eval_split")


def test_layers_are_a_curve(config, tmp_path, monkeypatch):
    """The rows of two layers, their own features, and one linear probe."""
    weights = random_weights("classifier", pool="token", **SMALL | {"depth": 2}).encoder()
    export.export(weights, tmp_path / "two", format="npz")
    quick_attention(monkeypatch)
    drawn = []
    monkeypatch.setattr(probe.curves, "draw", lambda rows, path: drawn.extend(rows))
    made = probe.compare(
        [str(tmp_path / "two")], config, tmp_path / "out", layers=(1, 2), whiten=True,
        standardise=True, methods=("knn", "attentive", "linear"),
    )  # fmt: skip
    first, last = made["encoders"]
    assert (first["layer"], last["layer"]) == (1, 2)
    both = ["knn", "attentive", "knn_whitened", "knn_standardised"]
    assert [name for name in first if isinstance(first[name], dict)] == both
    assert set(both) | {"linear"} == {name for name in last if isinstance(last[name], dict)}
    assert first["knn"]["mean"] != last["knn"]["mean"]
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert "| encoder | layer | parameters |" in table and "| two | 2 | " in table
    assert {(row["method"], row["layer"]) for row in drawn} >= {("kNN", 1), ("kNN, whitened", 2)}
    features = tmp_path / "out" / "features"
    with np.load(features / "two-train-token-1-2.npz") as file:
        assert file["features_1"].shape == (100, 16)
    with np.load(features / "two-held-out-patches-1.npz") as file:
        assert file["features_1"].shape == (50, 16, 16)
        assert file["features_1"].dtype == np.float16
    without = [str(tmp_path / "two")], config, tmp_path / "plain"
    (row,) = probe.compare(*without, methods=("knn",))["encoders"]
    assert row["knn"] == last["knn"]
    with pytest.raises(UsageError, match="'linear' reads the last block; have 2 among --layers"):
        probe.compare(*without, methods=("linear",), layers=(1,))


def test_a_model_without_a_class_token(config, tmp_path):
    tokenless = random_weights(
        **SMALL, decoder_width=8, decoder_depth=1, decoder_heads=1, class_token=False
    )
    export.export(tokenless, tmp_path / "mean", format="npz")
    call = [str(tmp_path / "mean")], config, tmp_path / "out"
    assert probe.compare(*call, methods=("knn",))["encoders"][0]["output"] == "mean"
    with pytest.raises(UsageError, match="'token' needs a model with a class token"):
        probe.compare(*call, methods=("knn",), output="token")


def test_scales_of_branches_go_into_what_they_scale(encoders, tmp_path):
    # DINOv2's, with a scale of 2 for what was halved: the same encoder.
    shutil.copytree(encoders[0], tmp_path / "scaled")
    for name in ("SHA256SUMS", "README.md"):
        (tmp_path / "scaled" / name).unlink()
    path = tmp_path / "scaled" / "model.safetensors"
    tensors = load_file(path)
    for scale, layer in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
        for part in ("weight", "bias"):
            tensors[f"blocks.0.{layer}.{part}"] /= 2
        tensors[f"blocks.0.{scale}.gamma"] = np.full(16, 2, np.float32)
    save_file(tensors, path)
    plain, scaled = (read.read(folder) for folder in (encoders[0], tmp_path / "scaled"))
    for name, value in plain.tensors.items():
        np.testing.assert_array_equal(scaled.tensors[name], value)
    tensors["reg_token"] = np.zeros((1, 4, 16), np.float32)
    save_file(tensors, path)
    with_registers = read.read(tmp_path / "scaled")
    assert (with_registers.class_tokens, with_registers.registers) == (5, 4)
    export.export(with_registers, tmp_path / "exported", format="npz", force=True)
    assert read.read(tmp_path / "exported").registers == 4
    config = default_config()
    config.init_from = str(tmp_path / "scaled")
    with pytest.raises(UsageError, match="has 4 register tokens, with which nothing is trained"):
        start.adopt(config)
    tensors["reg_token"] = np.zeros((1, 4, 8), np.float32)
    save_file(tensors, path)
    with pytest.raises(UsageError, match="must each be"):
        read.read(tmp_path / "scaled")

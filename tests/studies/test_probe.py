import json
import shutil

import numpy as np
import pytest
from made import random_weights
from PIL import Image
from safetensors.numpy import load_file, save_file

from mae_jax.config import default_config
from mae_jax.errors import UsageError
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


@pytest.fixture
def config(digits_config):
    config = digits_config
    config.data.eval_split, config.data.eval_crop = "test[:50]", 1.0
    config.model.width = config.model.heads = None
    config.train.objective, config.model.pool, config.train.steps = "probe", "token", 2
    config.train.optimizer = "lars"
    return config


def test_two_encoders_in_other_formats_appear_in_the_table(encoders, config, tmp_path):
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
    assert "| logistic | kNN | kNN, centred | linear (LARS) |" in table


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
    fails("method 'svm' is unknown; known are logistic, knn, knn_centred, linear", methods=("svm",))
    fails("--draws=0 must be at least 1", draws=0)
    config.data.labels_per_class = 99
    fails("labels_per_class 99 is more than")
    config.data.labels_per_class, config.train.objective = None, "classify"
    fails("method 'linear' needs train.objective 'probe'", methods=("linear",))
    config.data.eval_split = None
    fails("a probe needs data.eval_split")


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
        start.architecture(config)
    tensors["reg_token"] = np.zeros((1, 4, 8), np.float32)
    save_file(tensors, path)
    with pytest.raises(UsageError, match="must each be"):
        read.read(tmp_path / "scaled")

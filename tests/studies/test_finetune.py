import json
import shutil

import jax
import numpy as np
import pytest

from mae_jax import pixels
from mae_jax.data import loader
from mae_jax.errors import UsageError
from mae_jax.studies import finetune
from mae_jax.train import loop
from mae_jax.train.checkpoints import checkpoint
from mae_jax.weights import read, start


@pytest.fixture(scope="module")
def pretrained(new_digits_config, tmp_path_factory):
    """The work folder of a masked autoencoder, trained for a step."""
    config, folder = new_digits_config(), tmp_path_factory.mktemp("pretrained")
    config.train.steps, config.log.knn = 1, False
    loop.run(config, folder, quiet=True)
    return folder


def tuning(config, source, objective="classify"):
    config.train.objective, config.init_from = objective, str(source)
    config.train.steps, config.train.ema, config.model.drop_path = 6, 0.9, 0.1
    config.data.randaugment, config.train.mixup, config.train.cutmix = 2, 0.8, 1.0
    config.train.erasing = 0.25
    if objective == "probe":
        config.model.pool, config.train.optimizer, config.train.base_lr = "token", "lars", 5.0
    return config


def final(folder):
    found = checkpoint.read_model(str(folder))
    return found["step"], jax.tree.leaves(found["params"]) + jax.tree.leaves(found["tables"])


class Cut(Exception):
    pass


@pytest.mark.parametrize("objective", ["classify", "probe"])
def test_resuming_is_exact_and_reads_no_weights_again(
    new_digits_config, pretrained, tmp_path, monkeypatch, objective
):
    source = tmp_path / "source"
    shutil.copytree(pretrained, source)
    finetune.run(tuning(new_digits_config(), source, objective), tmp_path / "whole", quiet=True)
    iterate = loader.TrainBatches.iterate

    def until_cut(self, start, workers):
        for step, batch in enumerate(iterate(self, start, workers), start):
            if step == 4:
                raise Cut
            yield batch

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(loader.TrainBatches, "iterate", until_cut)
        finetune.run(tuning(new_digits_config(), source, objective), tmp_path / "cut", quiet=True)
    shutil.rmtree(source)
    monkeypatch.setattr(start, "_read", None)
    finetune.run(tuning(new_digits_config(), source, objective), tmp_path / "cut", quiet=True)
    (step, whole), (other_step, cut) = final(tmp_path / "whole"), final(tmp_path / "cut")
    assert step == other_step == 6
    for a, b in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_source_that_is_gone_before_the_run_began(digits_config, tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        finetune.run(tuning(digits_config, tmp_path / "nowhere"), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_dimensions_and_pixel_statistics_are_adopted(digits_config, pretrained, tmp_path):
    digits_config.model.width = digits_config.model.depth = None
    digits_config.model.heads, digits_config.init_from = None, str(pretrained)
    start.adopt(digits_config, tmp_path)
    assert (digits_config.model.width, digits_config.model.depth) == (16, 2)
    assert digits_config.data.mean == (0.5,)


def test_the_size_of_the_images_is_adopted_where_the_config_leaves_it_open(
    digits_config, pretrained, tmp_path
):
    config = tuning(digits_config, pretrained)
    config.model.image_size = None
    alone = config.copy_and_resolve_references()
    start.adopt(config, tmp_path)
    assert config.model.image_size == (8, 8)
    pixels.settle(alone)
    assert alone.model.image_size == (224,)


def test_positions_are_resized_to_larger_images(digits_config, pretrained, tmp_path):
    config = tuning(digits_config, pretrained)
    config.model.image_size, config.train.steps = (16, 12), 1
    finetune.run(config, tmp_path, quiet=True)
    weights = read.read(tmp_path)
    assert weights.dimensions.image_size == (16, 12)
    assert weights.tensors["pos_embed"].shape == (1, 1 + 8 * 6, 16)


def test_a_linear_probe_reads_as_one_linear_layer(digits_config, pretrained, tmp_path):
    config = tuning(digits_config, pretrained, "probe")
    config.train.ema = None
    summary = finetune.run(config, tmp_path, quiet=True)
    weights = read.read(tmp_path)
    assert weights.kind == "classifier" and not weights.mean_pool
    assert weights.origin["classes"] == [str(digit) for digit in range(10)]
    # What was measured with BatchNorm on the held-out images is what the folded layer gives.
    from mae_jax.inference import evaluation

    config.data.eval_crop = 0.875
    found = evaluation.evaluate(weights, config)["measures"]
    assert found["top1"] == pytest.approx(summary["measures"]["eval_accuracy"])
    assert found["loss"] == pytest.approx(summary["measures"]["eval_loss"], rel=1e-4)


def test_the_moving_average_is_what_is_read(digits_config, pretrained, tmp_path):
    from mae_jax.inference import evaluation

    config = tuning(digits_config, pretrained)
    measures = finetune.run(config, tmp_path, quiet=True)["measures"]
    assert measures["eval_ema_loss"] != measures["eval_loss"]
    found = evaluation.evaluate(read.read(tmp_path), config)["measures"]
    assert found["loss"] == pytest.approx(measures["eval_ema_loss"], rel=1e-4)


def test_a_grid_of_labels_and_methods(new_digits_config, pretrained, tmp_path):
    config = tuning(new_digits_config(), pretrained)
    config.train.steps, config.data.split = 1, "train[:300]"
    scratch = new_digits_config()
    scratch.train.objective, scratch.train.steps, scratch.data.eval_split = "classify", 2, "train"
    config.train.warmup_steps = scratch.train.warmup_steps = 0
    result = finetune.compare(
        config, tmp_path, draws=2, labels=[2, "all"], baselines=True, scratch=scratch
    )
    rows = {(row["method"], row["labels"]): row for row in result["accuracy"]}
    assert rows.keys() == {(m, n) for m in ("pretrained", "scratch", "pixels") for n in (2, "all")}
    assert all(len(row["accuracies"]) == 2 for row in rows.values())
    assert json.loads((tmp_path / "comparison.json").read_text()) == result["accuracy"]
    saved = json.loads((tmp_path / "scratch-labels2-1" / "config.json").read_text())["config"]
    assert saved["train"]["steps"] == 2 and saved["data"]["eval_split"] == "test[:13]"
    assert saved["data"]["labels_per_class"] == 2 and saved["data"]["label_draw"] == 1
    everything = json.loads((tmp_path / "pretrained-labelsall-1" / "config.json").read_text())
    assert everything["config"]["seed"] == 1
    text = finetune.table(result["accuracy"])
    assert "    2 labels" in text and "  all labels" in text and "±" in text


def test_a_curve_over_blocks(new_digits_config, pretrained, tmp_path):
    config = tuning(new_digits_config(), pretrained)
    config.train.steps = 1
    result = finetune.compare(config, tmp_path, blocks=[0, 0.5, 2])
    assert [row["blocks"] for row in result["accuracy"]] == [0, 0.5, 2]
    assert all(row["deviation"] is None for row in result["accuracy"])
    assert " 0.5 blocks" in finetune.table(result["accuracy"])


def test_what_diverges_is_noted_and_the_others_go_on(new_digits_config, pretrained, tmp_path):
    config = tuning(new_digits_config(), pretrained)
    config.train.steps = 1
    scratch = new_digits_config()
    scratch.train.objective, scratch.train.steps, scratch.train.base_lr = "classify", 3, 1e38
    scratch.train.warmup_epochs = 0.0
    result = finetune.compare(config, tmp_path, baselines=True, scratch=scratch)
    rows = {row["method"]: row for row in result["accuracy"]}
    assert rows["scratch"]["diverged"] == [0] and rows["scratch"]["accuracies"] == []
    assert rows["pretrained"]["mean"] is not None and rows["pixels"]["mean"] is not None
    assert "diverged" in finetune.table(result["accuracy"])


def test_baselines_get_the_pixels_of_the_pretrained_encoder(digits_config, tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "arrays"
    for index in range(40):
        path = folder / "ab"[index % 2] / f"{index}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rng.normal(300 * (index % 2) - 1000, 50, (8, 8, 1)).astype(np.float32))
    data, train = digits_config.data, digits_config.train
    data.name, data.folder, data.split, data.eval_split = None, str(folder), "all[:20]", "all[20:]"
    train.steps, digits_config.log.knn = 1, False
    data.pixels, data.mean, data.std = "float32", (-850.0,), (160.0,)
    loop.run(digits_config, tmp_path / "run", quiet=True)
    data.pixels, data.mean, data.std = None, (), ()
    train.objective, digits_config.init_from = "classify", str(tmp_path / "run")
    rows = finetune.compare(digits_config, tmp_path / "tuned", baselines=True)["accuracy"]
    assert [row["method"] for row in rows] == ["pretrained", "scratch", "pixels"]
    assert rows[2]["mean"] == 1  # the classes are far apart
    saved = json.loads((tmp_path / "tuned" / "scratch-0" / "config.json").read_text())["config"]
    assert saved["init_from"] is None
    assert (saved["data"]["pixels"], saved["data"]["mean"]) == ("float32", [-850.0])


def test_comparisons_that_cannot_be(new_digits_config, pretrained, tmp_path):
    for change, options, message in (
        ({"eval_split": None}, {}, "needs data.eval_split"),
        ({}, {"draws": 0}, "--draws=0 must be at least 1"),
        ({}, {"labels": [0]}, "--labels=0 must be at least 1, or all"),
        ({}, {"blocks": [3]}, "train.trained_blocks 3 is more than the encoder's 2 blocks"),
        ({}, {"blocks": [0.3]}, "train.trained_blocks is 0.3; it must be a number 0.5, or whole"),
    ):
        config = tuning(new_digits_config(), pretrained)
        for name, value in change.items():
            config.data[name] = value
        with pytest.raises(UsageError, match=message):
            finetune.compare(config, tmp_path / "run", **options)
    config.init_from = None
    with pytest.raises(UsageError, match="--blocks needs --config.init_from"):
        finetune.compare(config, tmp_path / "run", blocks=[1])

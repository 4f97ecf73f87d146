import csv
import json
import re

import jax
import numpy as np
import pytest
from made import random_weights
from PIL import Image

import mae_jax
from mae_jax.config import default_config
from mae_jax.data import sources
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.evaluation import robustness
from mae_jax.inference import evaluation
from mae_jax.weights.load import PretrainedClassifier

GREY = dict(image_size=8, patch_size=4, channels=1, width=16, depth=1, heads=2)


@pytest.fixture(scope="module")
def classifier():
    return random_weights("classifier", classes=10, **GREY)


@pytest.fixture
def config(digits_config):
    digits_config.data.eval_crop = 1.0
    return digits_config


def test_13_images_in_batches_of_8_on_8_devices_count_13(classifier, config, tmp_path):
    assert jax.device_count() == 8
    config.data.batch_size, config.data.eval_split = 8, "test[:13]"
    result = evaluation.evaluate(classifier, config, tmp_path)
    assert result["images"] == 13
    source = sources.open_source(config.data, "test[:13]")
    images = np.stack([np.asarray(Image.open(_file(source[i].data))) for i in range(13)])
    standard = (images[..., None] / 255 - 0.5) / 0.5
    model = mae_jax.weights.model.build(classifier)
    logits = np.asarray(model(standard.astype(np.float32)))
    right = int((logits.argmax(1) == source.labels()).sum())
    assert result["measures"]["top1"] == pytest.approx(right / 13)
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert sum(row["images"] for row in found["per_class"]) == 13
    rows = list(csv.reader((tmp_path / "confusion.csv").open()))
    assert sum(int(cell) for row in rows[1:] for cell in row[1:]) == 13


def _file(data):
    import io

    return io.BytesIO(data)


@pytest.mark.parametrize("batch_size", [3, 16, 1000])
def test_any_batch_size_gives_the_same(classifier, config, batch_size):
    config.data.eval_split = "test[:13]"
    config.data.batch_size = 13
    once = evaluation.evaluate(classifier, config)
    config.data.batch_size = batch_size
    again = evaluation.evaluate(classifier, config)
    assert again["images"] == once["images"] == 13
    assert again["measures"] == pytest.approx(once["measures"], rel=1e-5)


def test_classes_are_matched_by_name(classifier):
    weights = random_weights("classifier", classes=3, **GREY)
    weights.origin["classes"] = ["ant", "bee", "cat"]
    np.testing.assert_array_equal(evaluation.columns_of(weights, ["bee", "cat"]), [1, 2])
    np.testing.assert_array_equal(evaluation.columns_of(weights, ["cat", "ant", "bee"]), [2, 0, 1])
    with pytest.raises(UsageError, match="a class 'dog' that the model does not"):
        evaluation.columns_of(weights, ["ant", "dog"])
    with pytest.raises(UsageError, match="tells 10 classes apart, and the data has 3"):
        evaluation.columns_of(classifier, ["a", "b", "c"])
    with pytest.raises(UsageError, match="needs labelled data"):
        evaluation.columns_of(classifier, [])


def test_what_is_no_classifier_is_refused(config):
    with pytest.raises(UsageError, match="holds no classifier"):
        evaluation.evaluate(random_weights(**GREY, decoder_width=16, decoder_depth=1,
                                           decoder_heads=2), config)  # fmt: skip


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A classifier of ImageNet's classes, and its robustness sets with a few images each."""
    root, rng = tmp_path_factory.mktemp("robustness"), np.random.default_rng(0)
    names = evaluation.imagenet_classes()
    places = [part.folders[0] for kind in robustness.SETS.values() for part in kind.parts]
    for place in places:
        for name in (names[3], names[700]):
            folder = root / place / name
            folder.mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(folder / "image.png")
    return random_weights("classifier", classes=1000, **GREY), root, names


def test_robustness_sets_from_folders(imagenet, tmp_path):
    weights, root, names = imagenet
    config = default_config()
    config.data.name, config.data.batch_size = "imagenet2012", 8
    found = evaluation.robustness(weights, config, list(robustness.SETS), root=root, out=tmp_path)
    assert found["images"] == 2 * (75 + 3)
    top1 = json.loads((tmp_path / "robustness.json").read_text())["parts"]
    mce = robustness.corruption_errors(top1["imagenet_c"])["mCE"]
    assert found["measures"]["imagenet_c_mCE"] == pytest.approx(mce)
    # Among two classes a guess is often right; among a thousand it is not.
    source = sources.FolderSource(str(root / "imagenet-a"), "all")
    assert list(source.classes) == [names[3], names[700]]
    tally, broken = evaluation._tally(
        PretrainedClassifier(weights), source, weights.pixels, 0.0, present_classes=True
    )
    assert len(tally.confusion) == 2 and not broken
    np.testing.assert_array_equal(evaluation.columns_of(weights, source.classes), [3, 700])


def test_mistakes_are_found_before_anything_runs(imagenet, tmp_path):
    weights, _root, _ = imagenet
    config = default_config()
    config.data.name = "imagenet2012"
    with pytest.raises(UsageError, match=re.escape("robustness set 'imagenet_d' is unknown")):
        evaluation.robustness(weights, config, ["imagenet_d"])
    with pytest.raises(UsageError, match="has no folder"):
        evaluation.robustness(weights, config, ["imagenet_a"], root=tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        evaluation.evaluate(weights, config, tmp_path / "file" / "out")


def test_broken_images_are_left_out_up_to_a_share(classifier, config, tmp_path):
    rng = np.random.default_rng(0)
    for name in map(str, range(10)):
        (tmp_path / "digits" / name).mkdir(parents=True)
        for index in range(2):
            path = tmp_path / "digits" / name / f"{index}.png"
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path)
    config.data.name, config.data.folder = None, str(tmp_path / "digits")
    config.data.split, config.data.eval_split = "all", None
    whole = evaluation.evaluate(classifier, config)
    (tmp_path / "digits" / "3" / "1.png").write_bytes(b"no image")
    found = evaluation.evaluate(classifier, config)
    assert (whole["images"], found["images"], found["broken"]) == (20, 19, 1)
    config.data.broken_share = 0.0
    with pytest.raises(BrokenRecord, match=r"1\.png"):
        evaluation.evaluate(classifier, config)

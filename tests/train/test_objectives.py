import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax.config import default_config
from mae_jax.config.schema import SCHEMA
from mae_jax.models import masking, patches, targets
from mae_jax.models.fast import ways
from mae_jax.train import mixing
from mae_jax.train.classify import Classify
from mae_jax.train.objectives import Reconstruct

CLASSES = 4


@pytest.fixture
def objective():
    config = default_config()
    config.model.image_size, config.model.patch_size, config.model.channels = (4,), (2,), 1
    config.train.objective, config.train.mixup = "classify", 0.8
    return Classify.from_config(config, CLASSES)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (16, 4, 4, 1)), jnp.uint8),
        "label": jnp.asarray(rng.integers(0, CLASSES, 16)),
    }


def logits(images, scales=None, *, train=False):
    """Stands in for a model: depends on every pixel."""
    return images.reshape(len(images), CLASSES, -1).sum(-1)


def test_mixup_mixes_images_and_labels_by_the_same_share(objective, batch):
    drawn = objective.draw(batch, jax.random.key(1))
    share = np.asarray(drawn["share"])
    assert share.shape == (16,) and share.min() >= 0 and share.max() <= 1 and share.std() > 0.1
    a, b = (np.asarray(objective.pixels.standardise(drawn[k])) for k in ("image", "partner_image"))
    mixed = share[:, None, None, None] * a + (1 - share[:, None, None, None]) * b
    one, other = (np.eye(CLASSES)[drawn[k]] for k in ("label", "partner_label"))
    targets = share[:, None] * one + (1 - share[:, None]) * other
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    expected = -(targets * np.asarray(jax.nn.log_softmax(logits(jnp.asarray(mixed))))).sum(1)
    assert float(objective.loss(logits, drawn)) == pytest.approx(expected.mean(), rel=1e-5)


def test_partners_are_images_of_the_batch_with_their_own_labels(objective, batch):
    drawn = objective.draw(batch, jax.random.key(1))
    known = {image.tobytes(): int(label) for image, label in zip(
        np.asarray(batch["image"]), batch["label"], strict=True
    )}  # fmt: skip
    for image, label in zip(
        np.asarray(drawn["partner_image"]), drawn["partner_label"], strict=True
    ):
        assert known[image.tobytes()] == int(label)


def test_measures_are_of_the_images_as_they_are(objective, batch):
    drawn = objective.draw(batch, jax.random.key(1))
    plain = dataclasses.replace(objective, mixup=0.0)
    assert plain.draw(batch, jax.random.key(1)) == batch
    for name, values in plain.measure(logits, batch).items():
        np.testing.assert_array_equal(values, objective.measure(logits, drawn)[name])


@pytest.fixture
def everything(objective):
    return dataclasses.replace(
        objective, label_smoothing=0.1, cutmix=1.0, erasing=0.5, drop_path=0.2
    )


def test_label_mass_is_conserved(everything, batch):
    drawn = everything.draw(batch, jax.random.key(1))
    one, other = (everything._targets(drawn[k]) for k in ("label", "partner_label"))
    np.testing.assert_allclose(one.sum(1), 1, rtol=1e-6)
    assert float(one.min()) == pytest.approx(0.1 / CLASSES)
    targets = mixing.mix(one, other, drawn["share"])
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)


def test_what_is_drawn_is_per_sample(everything, batch):
    drawn = everything.draw(batch, jax.random.key(1))
    assert {len(value) for value in drawn.values()} == {16}
    depth = everything.dimensions.depth
    assert drawn["scales"].shape == (16, depth, 2)
    assert jnp.isfinite(everything.loss(logits, drawn))
    partner = drawn["partner_erased"]
    known = {np.asarray(box).tobytes() for box in drawn["erased"]}
    assert {np.asarray(box).tobytes() for box in partner} == known


def test_a_probe_freezes_the_encoder_and_normalises_its_token():
    config = default_config()
    config.model.image_size, config.model.patch_size, config.model.channels = (4,), (2,), 1
    config.train.objective, config.model.pool = "probe", "token"
    probe = dict(Classify.from_config(config, CLASSES).arguments)
    assert probe["normalise_head"] and probe["frozen"] == 12
    config.train.objective, config.train.trained_blocks = "classify", 0.5
    half = dict(Classify.from_config(config, CLASSES).arguments)
    assert not half["normalise_head"] and half["frozen"] == 11


def small(**changes):
    config = default_config()
    config.model.update(
        dict(image_size=(4,), patch_size=(2,), channels=1, width=16, depth=1, heads=2,
             decoder_width=8, decoder_depth=1, decoder_heads=2) | changes
    )  # fmt: skip
    objective = Reconstruct.from_config(config)
    return objective, objective.create(nnx.Rngs(0))


def test_what_is_measured_is_each_images_loss_and_what_is_drawn_its_picture(batch):
    objective, model = small(mask_ratio=0.5)
    drawn = objective.draw(batch, jax.random.key(1))
    (values,) = objective.measure(model, drawn).values()
    assert values.shape == (16,) and np.std(values) > 0.01
    for image in (0, 7):
        alone = {name: x[image : image + 1] for name, x in drawn.items()}
        assert float(values[image]) == pytest.approx(float(objective.loss(model, alone)), rel=1e-4)
    pictures, mask = objective.reconstruct(model, drawn)
    made, truth = (patches.patchify(x, (2, 2)) for x in (pictures, batch["image"] / 255))
    visible = np.asarray(mask) == 0
    assert (visible.sum(1) == 2).all()
    near = np.isclose(made, truth, atol=1e-6).all(-1)
    np.testing.assert_array_equal(near, visible)


def test_a_classifiers_measures(batch):
    config = default_config()
    config.train.objective = "classify"
    given = np.random.default_rng(0).normal(size=(16, 7)).astype(np.float32)
    labels = np.asarray(batch["label"])
    for classes in (7, 5):
        objective, answers = Classify.from_config(config, classes), given[:, :classes]
        found = objective.measure(lambda images, answers=answers: jnp.asarray(answers), batch)
        rank = (answers > answers[np.arange(16), labels][:, None]).sum(1)
        log_p = answers - np.log(np.exp(answers).sum(1, keepdims=True))
        np.testing.assert_allclose(found["loss"], -log_p[np.arange(16), labels], rtol=1e-5)
        np.testing.assert_array_equal(found["accuracy"], rank == 0)
        if classes > 5:
            np.testing.assert_array_equal(found["top5"], rank < 5)
            assert 0 < found["top5"].mean() < 1
        else:
            assert "top5" not in found


@pytest.mark.parametrize("class_token", [True, False])
def test_features_average_patch_tokens_only(batch, class_token):
    objective, model = small(class_token=class_token)
    tokens = model.encoder(objective.pixels.standardise(batch["image"]))
    assert tokens.shape == (16, 4 + class_token, 16)
    np.testing.assert_allclose(
        objective.features(model, batch), np.asarray(tokens)[:, -4:].mean(1), atol=1e-6
    )


def test_equal_objectives_share_their_programs():
    config = default_config()
    one, other = Reconstruct.from_config(config), Reconstruct.from_config(config)
    assert one == other and hash(one) == hash(other) and one is not other
    config.model.attention = "plain"
    assert Reconstruct.from_config(config) != one


def test_models_know_what_configs_may_name():
    model = SCHEMA["model"]
    assert all(model["sampling"].allowed(name) for name in masking.SAMPLINGS)
    assert all(model["attention"].allowed(name) for name in ["auto", *ways.WAYS])
    assert model["sampling"].range.startswith(f"one of {', '.join(masking.SAMPLINGS)}, or a fun")
    assert all(model["target"].allowed(name) for name in targets.TARGETS if name != "tokens")
    assert model["attention"].range == f"one of auto, {', '.join(ways.WAYS)}"

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax.config import default_config
from mae_jax.config.schema import SCHEMA
from mae_jax.models import masking, targets
from mae_jax.models.fast import ways
from mae_jax.train import mixing
from mae_jax.train.objectives import Classify, Reconstruct

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


@pytest.mark.parametrize("class_token", [True, False])
def test_features_average_patch_tokens_only(batch, class_token):
    config = default_config()
    config.model.update(
        dict(image_size=(4,), patch_size=(2,), channels=1, width=16, depth=1, heads=2,
             decoder_width=8, decoder_depth=1, decoder_heads=2, class_token=class_token)
    )  # fmt: skip
    objective = Reconstruct.from_config(config)
    model = objective.create(nnx.Rngs(0))
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

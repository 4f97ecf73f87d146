"""Targets other than pixels: what they compare, and that a model keeps what they need."""

import re
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from test_switches import NOISE, PHOTO, tiny

import mae_jax
from mae_jax.data import loader
from mae_jax.data.records import NO_LABEL, Record, Source
from mae_jax.errors import UsageError
from mae_jax.models import patches, targets
from mae_jax.models.mae import MaskedAutoencoder
from mae_jax.train import loop, measured_tables
from mae_jax.train.objectives import Reconstruct

IMAGES = jnp.asarray(np.stack([PHOTO[:8, :8], PHOTO[8:16, 8:16]]))


class Crops(Source):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return Record(PHOTO[index % 9 : 12 + index % 9, index % 11 :], NO_LABEL, str(index))

    def name(self, index):
        return str(index)

    def fingerprint(self):
        return {"crops": 40}


def task(**changes):
    config = tiny(model__target="pca", **changes)
    objective = Reconstruct.from_config(config)
    return types.SimpleNamespace(objective=objective, config=config, train=Crops())


@pytest.mark.parametrize("norm_pix", [False, True])
def test_directions_are_those_of_the_patches_a_run_begins_with(norm_pix):
    made = task(model__norm_pix=norm_pix, model__pca_components=5)
    found, again = measured_tables.directions(made), measured_tables.directions(made)
    assert all((found[name] == again[name]).all() for name in found)
    assert found["components"].shape == (5, 12) and found["mean"].shape == (12,)
    np.testing.assert_allclose(found["components"] @ found["components"].T, np.eye(5), atol=1e-5)

    picture = loader.Picture.from_config(made.config)
    batches = loader.TrainBatches(made.train, picture, batch_size=40, seed=0, steps=1)
    standard = made.objective.pixels.standardise(jnp.asarray(batches[0]["image"]))
    rows = np.asarray(patches.patchify(standard, (2, 2)), np.float64).reshape(-1, 12)
    if norm_pix:
        deviation = np.sqrt(rows.var(1, ddof=1, keepdims=True) + 1e-6)
        rows = (rows - rows.mean(1, keepdims=True)) / deviation
    np.testing.assert_allclose(found["mean"], rows.mean(0), atol=1e-5)
    _, _, expected = np.linalg.svd(rows - rows.mean(0))
    np.testing.assert_allclose(np.abs(found["components"] @ expected[:5].T), np.eye(5), atol=1e-3)
    other = measured_tables.directions(task(model__pca_components=5, seed=1))
    assert not (other["components"] == found["components"]).all()


def pca(size, norm_pix=True):
    target = targets.make("pca", 12, norm_pix=norm_pix, size=size)
    turned, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))
    target.components[...] = jnp.asarray(turned[:size], jnp.float32)
    target.mean[...] = jnp.arange(12.0) / 12
    return target


@pytest.mark.parametrize("norm_pix", [False, True])
def test_all_coefficients_are_the_patch_and_few_its_nearest_picture(norm_pix):
    cut = patches.patchify(IMAGES / 255.0, (2, 2))
    whole, few = pca(12, norm_pix), pca(3, norm_pix)
    np.testing.assert_allclose(whole.picture(whole(cut), cut), cut, atol=1e-5)
    np.testing.assert_allclose(few(cut), whole(cut)[..., :3], atol=1e-5)
    near = few.picture(few(cut), cut)
    assert float(jnp.abs(near - cut).max()) > 0.01
    np.testing.assert_allclose(few(near) if not norm_pix else few(cut), few(cut), atol=1e-5)


def test_coefficients_are_not_whitened():
    """The error of a coefficient counts as that of the pixels it stands for."""
    target, cut = pca(12, norm_pix=False), patches.patchify(IMAGES / 255.0, (2, 2))
    other = cut[::-1]
    between = target.errors(target(cut), target(other)).mean()
    np.testing.assert_allclose(between, jnp.square(cut - other).mean(), rtol=1e-5)


def example(page, name):
    """Python of a page of the docs that defines a name."""
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    (found,) = (t for t in re.findall(r"```python\n(.*?)```", text, re.S) if f" {name}(" in t)
    return found


def test_the_target_of_the_docs(monkeypatch):
    names = vars(targets) | {}
    exec(example("extend.md", "Mean"), names)
    monkeypatch.setitem(targets.TARGETS, "mean", names["Mean"])
    model = MaskedAutoencoder(
        image_size=8, patch_size=2, width=8, depth=1, heads=2, decoder_width=8, decoder_depth=1,
        decoder_heads=2, target="mean", rngs=nnx.Rngs(0),
    )  # fmt: skip
    output = model(IMAGES / 255, noise=NOISE)
    assert output.pred.shape == (2, 16, 1)
    assert model.predicted_images(IMAGES / 255, output).shape == IMAGES.shape


def test_the_tokenizer_of_the_docs(tmp_path):
    (tmp_path / "my_tokens.py").write_text(example("switches.md", "codes"))
    objective = Reconstruct.from_config(
        tiny(model__target=f"{tmp_path}/my_tokens.py:codes", model__image_size=(224,),
             model__patch_size=(16,))
    )  # fmt: skip
    assert dict(objective.arguments)["target_size"] == 8


TOKENIZER = """
import jax.numpy as jnp

def bright(images):
    \"\"\"Which of three equal parts of 0 to 1 the mean of a patch is in.\"\"\"
    batch, side, _, _ = images.shape
    cut = images.reshape(batch, side // 2, 2, side // 2, 2, -1)
    return (cut.mean((2, 4, 5)).reshape(batch, -1) * 2.999).astype(jnp.int32)

bright.vocabulary = 3

def silent(images):
    return bright(images)

def few(images):
    return bright(images)[:, :3]
few.vocabulary = 3

def broken(images):
    return images.no_such_method()
broken.vocabulary = 3
"""


@pytest.fixture
def tokens(tmp_path):
    (tmp_path / "tokens.py").write_text(TOKENIZER)
    return lambda name: tiny(model__target=f"{tmp_path}/tokens.py:{name}", model__norm_pix=False)


@pytest.mark.parametrize("loss_on", ["hidden", "all"])
def test_tokens_are_learned_by_cross_entropy(tokens, loss_on):
    config = tokens("bright")
    config.model.loss_on = loss_on
    objective = Reconstruct.from_config(config)
    assert objective == Reconstruct.from_config(config)  # the same compiled programs
    model = objective.create(nnx.Rngs(0))
    batch = objective.draw({"image": IMAGES}, jax.random.key(0)) | {"noise": NOISE}
    means = np.asarray(IMAGES).reshape(2, 4, 2, 4, 2, 3).mean((2, 4, 5)).reshape(2, 16) / 255
    np.testing.assert_array_equal(batch["codes"], (means * 2.999).astype(int))
    standard = objective.pixels.standardise(IMAGES)
    output = model(standard, noise=NOISE, codes=batch["codes"])
    assert output.pred.shape == (2, 16, 3)
    errors = optax.softmax_cross_entropy_with_integer_labels(output.pred, batch["codes"])
    counted = np.asarray(output.mask) if loss_on == "hidden" else np.ones((2, 16))
    expected = float((errors * counted).sum() / counted.sum())
    assert float(output.loss) == pytest.approx(expected, rel=1e-5)
    assert float(objective.loss(model, batch)) == pytest.approx(expected, rel=1e-5)
    measured = objective.measure(model, batch)["loss"]
    assert float(measured.mean()) == pytest.approx(expected, rel=1e-5)
    pixels = Reconstruct.from_config(tiny(model__loss_on=loss_on))
    predicted = (
        12 if loss_on == "hidden" else 16
    )  # of 8 numbers each by the decoder, 3 or 12 values
    assert pixels.flops - objective.flops == 6 * predicted * 8 * (12 - 3)
    pictures, mask = objective.reconstruct(model, batch)
    assert pictures is None and (mask == output.mask).all()
    with pytest.raises(ValueError, match="needs codes="):
        model(standard, noise=NOISE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("silent", "must say how many codes there are in its attribute `vocabulary`"),
        ("few", r"gives int32 \(2, 3\) .* must give integers \(2, 16\), a code for every patch"),
        ("broken", "cannot be compiled: AttributeError: .*no_such_method"),
        ("absent", "has no function 'absent'"),
    ],
)
def test_tokenizers_that_are_none_are_refused(tokens, name, message):
    with pytest.raises(UsageError, match=f"^model.target '.*{name}'.* ?{message}"):
        Reconstruct.from_config(tokens(name))


def test_a_run_keeps_its_directions_and_tokens_draw_what_is_hidden(
    digits_config, tmp_path, tokens, monkeypatch
):
    digits_config.train.steps, digits_config.model.target = 1, "pca"
    digits_config.train.warmup_steps = 0
    digits_config.model.pca_components, digits_config.log.knn = 3, False
    loop.run(digits_config, tmp_path / "pca")
    monkeypatch.setattr(measured_tables, "directions", lambda task: pytest.fail("measured again"))
    digits_config.train.steps = 2
    loop.run(digits_config, tmp_path / "pca")
    loaded = mae_jax.load(tmp_path / "pca")
    found = np.asarray(loaded.target.components[...])
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-5)
    assert loaded.decoder.pred.kernel.shape == (16, 3)

    digits_config.model.target = tokens("bright").model.target
    summary = loop.run(digits_config, tmp_path / "tokens")
    assert summary["panel"] and np.isfinite(summary["measures"]["eval_loss"])
    (tmp_path / "tokens.py").unlink()
    assert mae_jax.load(tmp_path / "tokens").target.values == 3

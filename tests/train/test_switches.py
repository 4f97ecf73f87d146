"""Every switch of pre-training changes what it says, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax import config as config_lib
from mae_jax.data import images, loader
from mae_jax.data.order import view_rng
from mae_jax.models import masking
from mae_jax.train.objectives import Reconstruct


def tiny(**changes):
    """A config of 4 x 4 patches."""
    config = config_lib.default_config()
    config.data.name, config.train.epochs = "mnist", 1.0
    config.model.update(
        dict(image_size=(8,), patch_size=(2,), width=8, depth=1, heads=2,
             decoder_width=8, decoder_depth=1, decoder_heads=2, norm_pix=False)
    )  # fmt: skip
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    config_lib.validate(config)
    return config


PHOTO = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
NOISE = jnp.asarray(np.random.default_rng(1).permuted(np.tile(np.arange(16.0), (2, 1)), axis=1))


def seen(config) -> dict:
    """What a run with a config does, by what it is."""
    objective = Reconstruct.from_config(config)
    picture = loader.Picture.from_config(config)
    views = [
        picture.augmented(images.Pixels(PHOTO), [view_rng(0, 0, record)])[0] for record in (0, 1)
    ]
    model, fixed = objective.create(nnx.Rngs(0)), jnp.asarray(np.stack(views) * 0 + PHOTO[:8, :8])
    drawn = objective.draw({"image": fixed}, jax.random.key(0))
    masked = drawn | {"noise": NOISE}
    masks = model.draw_masks(fixed, mask_ratio=0.75, noise=NOISE)
    latent = model.encode(objective.pixels.standardise(fixed), masks)
    state = nnx.to_pure_dict(nnx.state(model))
    return {
        "views": views,
        "noise": drawn["noise"],
        "encoder": state["encoder"],
        "decoder": {name: part for name, part in state["decoder"].items() if name != "pred"},
        "predicts": state["decoder"]["pred"],
        "latent": latent,
        "decoded": model.decode(latent, masks),
        "loss": objective.loss(model, masked),
        "measured": objective.measure(model, masked)["loss"],
    }


@pytest.fixture(scope="module")
def usual():
    return seen(tiny())


def changed(one, other) -> set[str]:
    def same(a, b):
        return jax.tree.structure(a) == jax.tree.structure(b) and all(
            x.shape == y.shape and (x == y).all()
            for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
        )

    return {name for name in one if not same(one[name], other[name])}


@pytest.mark.parametrize(
    ("switch", "what"),
    [
        ({"model__mask_unit": 2}, {"noise"}),
        ({"model__sampling": "block"}, {"noise"}),
        (
            {"model__class_tokens": 3},
            {"encoder", "decoder", "latent", "decoded", "loss", "measured"},
        ),
        ({"model__loss_on": "all"}, {"loss", "measured"}),
        ({"model__decode_ratio": 0.5}, {"noise", "loss"}),
        ({"model__decoder_attention": "cross"}, {"decoded", "loss", "measured"}),
        ({"data__crop": "none"}, {"views"}),
        ({"data__crop": "fixed"}, {"views"}),
        ({"data__color_jitter": 0.4}, {"views"}),
        ({"data__fixed_crop": 0.5}, set()),  # of crops that are fixed
        ({"model__norm_pix": True}, {"loss", "measured"}),
        (
            {"model__target": "pca", "model__pca_components": 4},
            {"predicts", "decoded", "loss", "measured"},
        ),
    ],
    # A set's order differs between processes, and so would its name.
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_a_switch_changes_what_it_says_and_nothing_else(usual, switch, what):
    assert changed(usual, seen(tiny(**switch))) == what


@pytest.mark.parametrize("sampling", masking.SAMPLINGS)
def test_a_run_hides_whole_units(sampling):
    objective = Reconstruct.from_config(tiny(model__mask_unit=2, model__sampling=sampling))
    model = objective.create(nnx.Rngs(0))
    batch = objective.draw({"image": jnp.asarray(PHOTO[None, :8, :8])}, jax.random.key(3))
    pictures, mask = objective.reconstruct(model, batch)
    units = np.asarray(mask).reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(4, 4)
    assert sorted(units.sum(1)) == [0, 4, 4, 4] and pictures.shape == (1, 8, 8, 3)
    assert objective.kept == 4 and objective.flops == Reconstruct.from_config(tiny()).flops


def test_a_loss_on_all_patches_is_their_mean():
    objective = Reconstruct.from_config(tiny(model__loss_on="all"))
    model, images = objective.create(nnx.Rngs(0)), jnp.asarray(PHOTO[None, :8, :8])
    standard = objective.pixels.standardise(images)
    output = model(standard, noise=NOISE[:1])
    expected = np.asarray(model.patch_errors(standard, output.pred)).mean()
    for found in (
        output.loss,
        objective.loss(model, {"image": images, "noise": NOISE[:1]}),
        objective.measure(model, {"image": images, "noise": NOISE[:1]})["loss"][0],
    ):
        assert float(found) == pytest.approx(float(expected), rel=1e-5)
    assert objective.flops > Reconstruct.from_config(tiny()).flops


def test_what_is_counted_is_what_is_kept():
    """A ratio that units cannot have: of 4 units .6 leaves 1, of 16 patches 6."""
    units, single = (
        Reconstruct.from_config(tiny(model__mask_ratio=0.6, model__mask_unit=unit))
        for unit in (2, 1)
    )
    assert (units.kept, single.kept) == (4, 6) and units.flops < single.flops

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mae_jax.config import default_config
from mae_jax.train.optimizer import Recipe, joined

RECIPE = Recipe(
    peak_lr=2e-3, min_lr=1e-5, warmup_steps=10, steps=110, weight_decay=0.05,
    undecayed=("pos_embed", "cls_token"), beta1=0.9, beta2=0.95, clip_norm=None,
    layer_decay=1.0, depth=2,
)  # fmt: skip


def params():
    block = {"fc1": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
    return {
        "encoder": {
            "cls_token": jnp.ones((1, 1, 2)),
            "pos_embed": jnp.ones((1, 3, 2)),
            "patch_embed": {"kernel": jnp.ones((2, 2, 1, 2)), "bias": jnp.ones(2)},
            "blocks": {0: block, 1: block},
        },
        "fc_norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)},
        "head": {"kernel": jnp.ones((2, 4)), "bias": jnp.ones(4)},
    }


def test_learning_rate_is_scaled_by_the_batch():
    config = default_config()
    recipe = Recipe.from_config(config, steps=100, steps_per_epoch=1, undecayed=(), depth=1)
    assert recipe.peak_lr == pytest.approx(1.5e-4 * 4096 / 256)
    assert recipe.warmup_steps == 40
    config.train.warmup_steps = 7
    recipe = Recipe.from_config(config, steps=100, steps_per_epoch=9, undecayed=(), depth=1)
    assert recipe.warmup_steps == 7


@pytest.mark.parametrize("step", [0, 3, 10, 11, 60, 109])
def test_schedule_is_the_closed_form_at_every_step(step):
    if step < 10:
        expected = 2e-3 * step / 10
    else:
        expected = 1e-5 + (2e-3 - 1e-5) * 0.5 * (1 + math.cos(math.pi * (step - 10) / 100))
    assert float(RECIPE.schedule()(step)) == pytest.approx(expected, rel=1e-5)


def test_no_warmup_starts_at_the_peak():
    recipe = dataclasses.replace(RECIPE, warmup_steps=0)
    assert float(recipe.schedule()(0)) == pytest.approx(2e-3)


def test_decay_mask():
    decayed = RECIPE.decayed(params())
    assert decayed["head"] == {"kernel": True, "bias": False}
    assert decayed["fc_norm"] == {"scale": False, "bias": False}
    assert not decayed["encoder"]["cls_token"] and not decayed["encoder"]["pos_embed"]
    assert decayed["encoder"]["patch_embed"]["kernel"]
    pretraining = dataclasses.replace(RECIPE, undecayed=()).decayed(params())
    assert pretraining["encoder"]["cls_token"]


def test_update_is_adamw():
    recipe = dataclasses.replace(RECIPE, warmup_steps=0, undecayed=())
    reference = optax.adamw(
        recipe.schedule(), b1=0.9, b2=0.95, weight_decay=0.05,
        mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p),
    )  # fmt: skip
    ours, theirs = recipe.build(), reference
    a = b = params()
    state_a, state_b = ours.init(a), theirs.init(b)
    for seed in range(3):
        gradient = jax.tree.map(
            lambda x: jax.random.normal(jax.random.key(seed), x.shape),  # noqa: B023
            a,
        )
        updates, state_a = ours.update(gradient, state_a, a)
        a = optax.apply_updates(a, updates)
        updates, state_b = theirs.update(gradient, state_b, b)
        b = optax.apply_updates(b, updates)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


def test_layer_decay_falls_towards_the_input():
    recipe = dataclasses.replace(RECIPE, layer_decay=0.5)
    scales = jax.tree_util.tree_map_with_path(lambda path, _: recipe.layer_scale(path), params())
    assert scales["head"]["kernel"] == scales["fc_norm"]["scale"] == 1
    assert scales["encoder"]["blocks"][1]["fc1"]["kernel"] == 0.5
    assert scales["encoder"]["blocks"][0]["fc1"]["bias"] == 0.25
    assert scales["encoder"]["pos_embed"] == scales["encoder"]["patch_embed"]["bias"] == 0.125


def test_gradients_are_clipped_by_their_global_norm():
    recipe = dataclasses.replace(RECIPE, clip_norm=1.0, warmup_steps=0)
    big = jax.tree.map(lambda x: 1e6 * x, params())
    optimizer = recipe.build()
    _, state = optimizer.update(big, optimizer.init(params()), params())
    first_moment = optax.tree.get(state, "mu")
    assert float(optax.tree.norm(first_moment)) == pytest.approx(0.1, rel=1e-4)


def test_lars_is_the_closed_form():
    recipe = dataclasses.replace(
        RECIPE, optimizer="lars", warmup_steps=0, weight_decay=0.01, beta1=0.9
    )
    optimizer, rng = recipe.build(), np.random.default_rng(0)
    kernel, bias = rng.normal(size=(3, 2)).astype(np.float32), np.ones(2, np.float32)
    given = {"head": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}
    state, momentum = optimizer.init(given), {"kernel": 0.0, "bias": 0.0}
    for step in range(3):
        gradient = {
            "kernel": rng.normal(size=(3, 2)).astype(np.float32),
            "bias": rng.normal(size=2).astype(np.float32),
        }
        updates, state = optimizer.update({"head": gradient}, state, given)
        given = optax.apply_updates(given, updates)
        decayed = gradient["kernel"] + 0.01 * kernel
        trusted = decayed * 0.001 * np.linalg.norm(kernel) / np.linalg.norm(decayed)
        rate = float(recipe.schedule()(step))
        momentum["kernel"] = 0.9 * momentum["kernel"] + trusted
        momentum["bias"] = 0.9 * momentum["bias"] + gradient["bias"]
        kernel, bias = kernel - rate * momentum["kernel"], bias - rate * momentum["bias"]
        np.testing.assert_allclose(given["head"]["kernel"], kernel, rtol=1e-5)
        np.testing.assert_allclose(given["head"]["bias"], bias, rtol=1e-5)


def named(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves}


@pytest.mark.parametrize(
    ("blocks", "trained"),
    [
        (0, set()),
        (0.5, {"encoder.blocks.1.mlp", "encoder.norm"}),
        (1, {"encoder.blocks.1.mlp", "encoder.blocks.1.attn", "encoder.norm"}),
        (2, {"encoder.blocks.0", "encoder.blocks.1", "encoder.norm"}),
    ],
)
def test_partial_fine_tuning_trains_the_last_blocks(blocks, trained):
    given = params()
    part = {"kernel": jnp.ones((2, 3))}
    given["encoder"]["blocks"] = {i: {"attn": part, "mlp": part} for i in range(2)}
    given["encoder"]["norm"] = {"scale": jnp.ones(2)}
    recipe = dataclasses.replace(RECIPE, trained_blocks=blocks)
    mine, frozen = recipe.split(given)
    always = {"head.kernel", "head.bias", "fc_norm.scale", "fc_norm.bias"}
    wanted = {n for n in named(given) if n.startswith(tuple(trained))} if trained else set()
    assert named(mine) == always | wanted
    assert named(frozen) == named(given) - named(mine)
    jax.tree.map(np.testing.assert_array_equal, joined(mine, frozen), given)


def test_everything_is_trained_by_default():
    given = params()
    assert RECIPE.split(given) == (given, {})
    assert joined(given, {}) == given
    assert joined({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) == {"a": {"b": 1, "c": 3}}

"""Steps of classifiers and probes: what moves, what stays, and on how many devices."""

import jax
import numpy as np
import pytest
from test_step import ONE, run

from mae_jax.train import state
from mae_jax.train.task import prepare


@pytest.fixture
def config(digits_config):
    digits_config.train.objective = "classify"
    return digits_config


@pytest.fixture
def everything(config):
    model, data, train = config.model, config.data, config.train
    model.drop_path, data.randaugment, train.label_smoothing = 0.2, 2, 0.1
    train.mixup, train.cutmix, train.erasing, train.ema = 0.8, 1.0, 0.25, 0.9
    return config


def as_probe(config):
    config.train.objective, config.model.pool = "probe", "token"
    config.train.optimizer, config.train.base_lr = "lars", 10.0
    return config


def test_all_augmentation_is_the_same_on_one_and_eight_devices(everything):
    one, eight = run(everything, 1), run(everything, 8)
    np.testing.assert_allclose(one[0], eight[0], atol=1e-5, rtol=0)
    np.testing.assert_array_equal(one[2], eight[2])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), one[3].ema, eight[3].ema)


def test_the_moving_average_is_the_closed_form(everything):
    task = prepare(everything, 1)
    fresh = state.create(task.objective, task.recipe, 0, ONE)
    average = jax.tree.map(np.asarray, fresh.params)
    for steps in (1, 2, 3):
        after = run(everything, 1, steps=steps)[3]
        average = jax.tree.map(lambda a, p: 0.9 * a + 0.1 * np.asarray(p), average, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), average, after.ema)
    jax.tree.map(np.testing.assert_array_equal, after.averaged().params, after.ema)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_probe_trains_its_head_alone(config, devices):
    task = prepare(as_probe(config), 1)
    fresh = jax.tree.map(np.asarray, state.create(task.objective, task.recipe, 0, ONE))
    after = run(config, devices)[3]
    jax.tree.map(np.testing.assert_array_equal, fresh.params["encoder"], after.params["encoder"])
    assert not np.array_equal(fresh.params["head"]["kernel"], after.params["head"]["kernel"])
    assert not np.array_equal(fresh.tables["head_norm"]["mean"], after.tables["head_norm"]["mean"])
    moments = sum(x.size for x in jax.tree.leaves(after.opt_state) if x.ndim)
    assert moments == sum(x.size for x in jax.tree.leaves(after.params["head"]))


def test_batch_norm_is_over_the_whole_batch_on_any_devices(config):
    one, eight = run(as_probe(config), 1)[3], run(config, 8)[3]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one.tables, eight.tables)


def test_a_probe_in_parts_takes_the_statistics_of_the_whole_batch(everything):
    whole = run(as_probe(everything), 2)
    everything.train.accumulate = 4
    parts = run(everything, 2)
    np.testing.assert_allclose(whole[0], parts[0], rtol=1e-5)
    for name in ("tables", "params", "opt_state"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
            *(getattr(result[3], name) for result in (whole, parts)),
        )


@pytest.mark.parametrize(
    ("blocks", "moved"), [(1.0, "blocks.1."), (0.5, "blocks.1.mlp."), (0.0, "nothing")]
)
def test_partial_fine_tuning_moves_the_last_blocks_alone(config, blocks, moved):
    config.train.trained_blocks, config.train.ema = blocks, 0.5
    task = prepare(config, 1)
    fresh = jax.tree.map(np.asarray, state.create(task.objective, task.recipe, 0, ONE))
    after = run(config, 1)[3]
    same = jax.tree.map(np.array_equal, fresh.params, jax.tree.map(np.asarray, after.params))
    for path, equal in jax.tree_util.tree_leaves_with_path(same["encoder"]):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        assert equal is not name.startswith(moved), name
    assert not any(jax.tree.leaves(same["head"]))
    assert after.averaged().params.keys() == after.params.keys()

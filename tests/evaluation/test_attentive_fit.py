"""The attentive probe as it is trained."""

import dataclasses

import numpy as np
import pytest
from flax import nnx

from mae_jax.errors import UsageError
from mae_jax.evaluation import attentive

QUICK = attentive.Recipe(queries=2, epochs=1, updates=60, batch_size=64)


def bags(count, seed):
    """Ten tokens, of which one says the class: a mean hides it, attention finds it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    tokens = rng.normal(size=(count, 10, 16)).astype(np.float32)
    tokens[:, :, 0] = 0
    where = rng.integers(0, 10, count)
    tokens[np.arange(count), where] = 0
    tokens[np.arange(count), where, 0] = 8  # by which it is found
    tokens[np.arange(count), where, 1 + labels] = 2
    return tokens, labels


def test_it_finds_the_token_that_says_the_class():
    tokens, labels = bags(300, 0)
    recipe = dataclasses.replace(QUICK, updates=200, peak_lr=1e-2)
    probe = attentive.fit(tokens, labels, classes=3, recipe=recipe)
    held_out, truth = bags(200, 1)
    assert attentive.accuracy(probe, held_out, truth) > 0.95
    assert attentive.logits(probe, held_out, batch_size=64).shape == (200, 3)


def test_equal_seeds_are_equal_and_others_are_not():
    tokens, labels = bags(100, 0)

    def trained(seed):
        probe = attentive.fit(tokens, labels, classes=3, seed=seed, recipe=QUICK)
        return np.concatenate(
            [np.ravel(x) for x in nnx.to_pure_dict(nnx.state(probe))["head"].values()]
        )

    first = trained(0)
    np.testing.assert_array_equal(first, trained(0))
    assert not np.array_equal(first, trained(1))


def test_batch_statistics_are_those_of_training():
    tokens, labels = bags(64, 0)
    probe = attentive.fit(tokens, labels, classes=3, recipe=QUICK)
    pooled = np.asarray(probe.pool(tokens))
    assert np.abs(np.asarray(probe.norm.mean[...]) - pooled.mean(0)).max() < 0.3
    assert np.asarray(probe.norm.mean[...]).any()


def test_half_precision_tokens_and_fewer_images_than_a_batch():
    tokens, labels = bags(20, 0)
    probe = attentive.fit(tokens.astype(np.float16), labels, classes=3, recipe=QUICK)
    assert attentive.accuracy(probe, tokens.astype(np.float16), labels) > 0.5


def test_queries_that_do_not_divide():
    with pytest.raises(
        UsageError, match="--queries=3 must be a divisor of the encoder's width, 16"
    ):
        attentive.check_queries(3, 16)

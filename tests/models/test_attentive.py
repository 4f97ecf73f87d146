"""The attentive probe, by its formula."""

import jax
import numpy as np
import pytest
from flax import nnx

from mae_jax.models.attentive import AttentiveProbe, queries_for


def test_each_query_averages_its_own_part_of_the_values():
    probe = AttentiveProbe(12, classes=3, queries=4, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(2, 5, 12)).astype(np.float32)
    queries, matrix = 100 * np.asarray(probe.queries[...]), np.asarray(probe.values[...])
    probe.queries.set_value(queries)
    pooled = np.asarray(probe.pool(x))
    for sample in range(2):
        for j in range(4):
            weights = np.exp(x[sample] @ queries[j] / np.sqrt(12))
            weights /= weights.sum()
            np.testing.assert_allclose(probe.attention(x)[sample, j], weights, rtol=1e-4)
            part = (x[sample] @ matrix)[:, 3 * j : 3 * j + 3]
            np.testing.assert_allclose(pooled[sample, 3 * j : 3 * j + 3], weights @ part, atol=1e-5)


def test_the_papers_number_of_parameters():
    probe = nnx.eval_shape(lambda: AttentiveProbe(768, classes=1000, rngs=nnx.Rngs(0)))
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(nnx.state(probe, nnx.Param)))
    assert count == 32 * 768 + 768 * 768 + 768 * 1000 + 1000 < 1.4e6


def test_queries_divide_the_width():
    assert [queries_for(width) for width in (768, 1280, 384, 64, 60, 16, 4)] == [
        32, 32, 32, 8, 6, 2, 1,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="5 queries do not divide a width of 64"):
        AttentiveProbe(64, classes=2, queries=5, rngs=nnx.Rngs(0))

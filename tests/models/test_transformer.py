"""Parts of blocks that other tests only see as a whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mae_jax.models import transformer
from mae_jax.models.fast import ways


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("attention", ways.WAYS)
def test_only_what_is_asked_for_comes_out_of_the_last_block(scan, remat, attention):
    blocks = transformer.blocks(128, 2, 3, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 7, 128))

    def outcome(queries):
        graphdef, state = nnx.split(blocks)

        def first_ones(state, x):
            stack = nnx.merge(graphdef, state)
            y = transformer.apply_blocks(
                stack, x, scan=scan, remat=remat, queries=queries,
                attend=ways.named(attention).attend,
            )  # fmt: skip
            return jnp.sin(y[:, :4]).sum(), y[:, :4]

        return jax.value_and_grad(first_ones, (0, 1), has_aux=True)(state, x)

    assert outcome(4)[0][1].shape == (2, 4, 128)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        outcome(4),
        outcome(None),
    )

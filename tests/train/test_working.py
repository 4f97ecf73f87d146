"""What a step computes with, and what it gives back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from mae_jax.parallel import Layout, Split
from mae_jax.train import working
from mae_jax.train.classify import Classify
from mae_jax.train.objectives import Reconstruct

SPLIT = Split(data=2, fsdp=2, tensor=2, zero=True)


@pytest.fixture
def model(digits_config):
    digits_config.model.dtype = "bfloat16"
    return Reconstruct.from_config(digits_config).abstract()


def parameters(model):
    """Numbers that bfloat16 cannot hold all of, laid out as at rest."""
    shapes = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    values = jax.tree.map(lambda x: jnp.arange(x.size, dtype=x.dtype).reshape(x.shape), shapes)
    return jax.device_put(values, Layout.of(SPLIT).state(values))


def test_kernels_are_gathered_as_they_are_multiplied(model):
    layout, dtypes, params = Layout.of(SPLIT), working.kernel_dtypes(model), parameters(model)
    used = jax.jit(lambda p: working.gathered(p, dtypes, layout))(params)
    block, at_rest = used["encoder"]["blocks"][0], params["encoder"]["blocks"][0]
    for name, spec in {"qkv": P(None, None, "tensor"), "proj": P("tensor")}.items():
        kernel, stored = block["attn"][name]["kernel"], at_rest["attn"][name]["kernel"]
        assert kernel.dtype == jnp.bfloat16 and stored.dtype == jnp.float32
        assert kernel.sharding.spec == spec
        np.testing.assert_array_equal(kernel, stored.astype(jnp.bfloat16))
    assert block["mlp"]["fc1"]["bias"].dtype == block["norm1"]["scale"].dtype == jnp.float32
    patch, stored = (tree["encoder"]["patch_embed"]["kernel"] for tree in (used, params))
    assert patch.shape == (stored[..., 0].size, stored.shape[-1])
    np.testing.assert_array_equal(patch, stored.astype(jnp.bfloat16).reshape(patch.shape))


def test_a_gradient_goes_back_to_where_its_parameter_is_updated(model):
    layout, dtypes, params = Layout.of(SPLIT), working.kernel_dtypes(model), parameters(model)

    @jax.jit
    def there_and_back(params):
        return working.scattered(working.gathered(params, dtypes, layout), params, layout)

    shardings = jax.tree.leaves(layout.optimizer(params))
    back = jax.tree.leaves(there_and_back(params))
    for x, original, sharding in zip(back, jax.tree.leaves(params), shardings, strict=True):
        assert x.dtype == jnp.float32 and x.sharding.is_equivalent_to(sharding, x.ndim)
        np.testing.assert_allclose(x, original, rtol=2**-8)


def test_a_head_in_float32_stays_so(digits_config):
    digits_config.train.objective, digits_config.model.dtype = "classify", "bfloat16"
    dtypes = working.kernel_dtypes(Classify.from_config(digits_config, 10).abstract())
    assert ("head", "kernel") not in dtypes
    assert set(dtypes.values()) == {jnp.dtype(jnp.bfloat16)}

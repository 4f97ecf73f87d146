"""Which way attention is computed, and that nothing but the numbers' last digits depends on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mae_jax
from mae_jax.models import transformer
from mae_jax.models.fast import gelu as gelu_lib
from mae_jax.models.fast import ways
from mae_jax.models.mae import MaskedAutoencoder

SMALL = dict(
    image_size=8, patch_size=4, channels=1, width=128, depth=2, heads=4,
    decoder_width=128, decoder_depth=1, decoder_heads=4, mask_ratio=0.5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "platform", "devices", "way"),
    [
        ("auto", "cpu", 1, ways.Packed()),
        ("auto", "cpu", 8, ways.PLAIN),
        ("auto", "gpu", 1, ways.PLAIN),
        ("auto", "tpu", 8, ways.Grouped(4)),
        ("grouped", "cpu", 8, ways.Grouped(4)),
        ("plain", "tpu", 8, ways.PLAIN),
        ("packed", "gpu", 1, ways.Packed()),
        ("cudnn", "gpu", 1, ways.Fused()),
        ("cudnn", "cpu", 1, ways.PLAIN),
    ],
)
def test_the_way_for_some_devices(name, platform, devices, way):
    chosen = ways.choose(name, platform, devices, shards=4)
    assert chosen == way and hash(chosen) == hash(way) and type(chosen) is type(way)


def test_a_way_without_that_name():
    with pytest.raises(ValueError, match="attention 'fast' is unknown; known are plain, grouped"):
        MaskedAutoencoder(attention="fast", rngs=nnx.Rngs(0), **SMALL)


def losses(attention, **changes):
    """A model's loss as a function of its parameters, and these."""
    model = MaskedAutoencoder(attention=attention, rngs=nnx.Rngs(0), **SMALL | changes)
    graphdef, params, tables = nnx.split(model, nnx.Param, ...)
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    noise = jax.random.uniform(jax.random.key(1), (2, 4))
    return lambda p: nnx.merge(graphdef, p, tables).loss(images, noise=noise), params


@pytest.mark.parametrize("cross", [False, True])
def test_one_kernel_gives_what_the_formula_gives(cross):
    fused = ways.Fused("xla")  # the kernel that is there on any device
    changes = dict(decoder_attention="cross" if cross else "self")
    for dtype, tolerance in (("float32", 0), ("bfloat16", 2e-2)):
        found, expected = (
            jax.jit(jax.value_and_grad(loss))(params)
            for loss, params in (losses(way, dtype=dtype, **changes) for way in (fused, "plain"))
        )
        assert float(found[0]) == pytest.approx(float(expected[0]), rel=tolerance)
        for one, other in zip(*map(jax.tree.leaves, (found[1], expected[1])), strict=True):
            assert jnp.linalg.norm(one - other) <= tolerance * jnp.linalg.norm(other) + 1e-3
        assert dtype == "float32" or found[0] != expected[0]


@pytest.mark.parametrize(
    ("attention", "changes"),
    [
        ("plain", dict(scan=True, remat=True)),
        (ways.Grouped(shards=1), dict(depth=1)),
        ("packed", dict(depth=1, dtype="bfloat16")),
    ],
)
def test_forward_mode_is_reverse_mode(attention, changes):
    loss, params = losses(attention, **changes)
    gradient = jax.jit(jax.grad(loss))(params)
    # Along the gradient, so that no term hides behind others of the other sign.
    expected = sum(float(jnp.square(x).sum()) for x in jax.tree.leaves(gradient))

    @jax.jit
    def forward(params, tangent):
        return jax.jvp(loss, (params,), (tangent,))[1]

    with pytest.raises(TypeError, match="forward-mode"):
        forward(params, gradient)
    with mae_jax.forward_mode():
        found = float(forward(params, gradient))
    assert found == pytest.approx(expected, rel=2e-2 if "dtype" in changes else 1e-4)


def test_a_hessian_needs_no_switch_and_is_the_same_with_it():
    blocks = transformer.blocks(16, 2, 2, dtype=jnp.float32, rngs=nnx.Rngs(0))
    x, other = jax.random.normal(jax.random.key(0), (2, 1, 3, 16))

    def along(t):  # through two scanned blocks, of tokens on a plane
        attend = ways.Packed().attend
        y = transformer.apply_blocks(blocks, x + t[0] * x + t[1] * other, scan=True, attend=attend)
        return jnp.sin(y).sum()

    here, hessian = jnp.zeros(2), jax.jit(jax.hessian(along))
    fast = hessian(here)
    with mae_jax.forward_mode():
        by_formula = hessian(here)
    assert (jnp.abs(fast) > 1e-2).all()
    np.testing.assert_allclose(fast, by_formula, rtol=1e-4, atol=1e-4)


def test_what_was_compiled_before_does_not_hide_the_switch():
    gelu = jax.jit(gelu_lib.gelu)
    value = gelu(jnp.ones(3))
    with mae_jax.forward_mode():
        again, tangent = jax.jvp(gelu, (jnp.ones(3),), (jnp.ones(3),))
    np.testing.assert_allclose(value, again, rtol=1e-6)
    np.testing.assert_allclose(tangent, jax.vmap(jax.grad(gelu))(jnp.ones(3)), rtol=1e-6)

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mae_jax.models import patches


def test_patches_are_in_raster_order_and_channels_last():
    images = jnp.arange(4 * 6 * 2).reshape(1, 4, 6, 2)
    cut = patches.patchify(images, (2, 3))
    assert cut.shape == (1, 4, 12)
    np.testing.assert_array_equal(cut[0, 1], np.asarray(images)[0, :2, 3:].ravel())
    np.testing.assert_array_equal(cut[0, 2], np.asarray(images)[0, 2:, :3].ravel())


@settings(max_examples=20, deadline=None)
@given(
    grid=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    patch=st.integers(1, 3),
    channels=st.integers(1, 4),
)
def test_unpatchify_undoes_patchify(grid, patch, channels):
    size = [g * patch for g in grid]
    images = np.random.default_rng(0).normal(size=(2, *size, channels)).astype(np.float32)
    cut = patches.patchify(jnp.asarray(images), [patch] * len(grid))
    np.testing.assert_array_equal(patches.unpatchify(cut, grid, [patch] * len(grid)), images)


def test_moments_are_unbiased_over_the_whole_patch():
    values = np.random.default_rng(0).normal(size=(2, 3, 12)).astype(np.float32)
    mean, deviation = patches.moments(jnp.asarray(values))
    np.testing.assert_allclose(mean[..., 0], values.mean(-1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(deviation[..., 0], np.sqrt(values.var(-1, ddof=1) + 1e-6), rtol=1e-5)


def test_positions_by_the_formula():
    table = patches.sincos_positions((3, 5), 16)
    assert table.shape == (15, 16)
    row, column = 2, 4
    omega = 10000.0 ** -(np.arange(4) / 4)
    expected = np.concatenate([f(p * omega) for p in (column, row) for f in (np.sin, np.cos)])
    np.testing.assert_allclose(table[row * 5 + column], expected, atol=1e-6)


def test_positions_refuse_a_width_that_does_not_divide():
    with pytest.raises(ValueError, match="width 6 is not divisible by 4"):
        patches.sincos_positions((2, 2), 6)

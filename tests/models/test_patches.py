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


@pytest.mark.parametrize("tokens", [0, 1])
def test_positions_of_another_grid_by_the_cubics_definition(tokens):
    old, new, a = (3, 4), (5, 2), -0.75
    table = np.random.default_rng(0).normal(size=(1, tokens + 12, 2)).astype(np.float32)
    whole = table[0, tokens:].reshape(*old, 2)

    def weight(t):
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * (t**3 - 5 * t**2 + 8 * t - 4)
        return near if t <= 1 else far if t < 2 else 0

    expected = np.zeros((*new, 2))
    for place in np.ndindex(*new):
        centre = [(p + 0.5) * o / n - 0.5 for p, o, n in zip(place, old, new, strict=True)]
        for row, column in np.ndindex(12, 12):  # well beyond the edges, which are repeated
            at = row - 4, column - 4
            share = weight(abs(centre[0] - at[0])) * weight(abs(centre[1] - at[1]))
            expected[place] += share * whole[min(max(at[0], 0), 2), min(max(at[1], 0), 3)]
    made = patches.resize_positions(table, old, new)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made[:, :tokens], table[:, :tokens])
    np.testing.assert_allclose(made[0, tokens:].reshape(*new, 2), expected, atol=1e-6)
    np.testing.assert_array_equal(patches.resize_positions(table, old, old), table)
    with pytest.raises(ValueError, match=r"a table of 1\d rows is not one of the grid \(3, 5\)"):
        patches.resize_positions(table, (3, 5), new)

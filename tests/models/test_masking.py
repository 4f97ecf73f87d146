import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mae_jax.models import masking


def test_kept_is_truncated_like_the_reference():
    assert masking.kept_patches(196, 0.75) == 49
    assert masking.kept_patches(200, 0.9) == 19


def test_keeps_the_lowest_noise_in_its_order():
    noise = jnp.array([[0.4, 0.1, 0.3, 0.2]])
    masks = masking.from_noise(noise, 2)
    np.testing.assert_array_equal(masks.keep_BK, [[1, 3]])
    np.testing.assert_array_equal(masks.mask_BN, [[1, 0, 1, 0]])
    np.testing.assert_array_equal(masks.restore_BN, [[3, 0, 2, 1]])


def test_a_mask_of_ones_own_is_a_noise():
    mask = jnp.array([[0, 1, 1, 0, 1, 1.0]])
    masks = masking.from_noise(mask, 2)
    np.testing.assert_array_equal(masks.keep_BK, [[0, 3]])
    np.testing.assert_array_equal(masks.mask_BN, mask)


@pytest.mark.parametrize("sampling", ["random", "block"])
def test_samples_of_a_batch_get_different_masks(sampling):
    noise = masking.SAMPLINGS[sampling](jax.random.key(0), 8, (14, 14))
    masks = np.asarray(masking.from_noise(noise, 49).mask_BN)
    assert len(np.unique(masks, axis=0)) == 8


@settings(max_examples=25, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 9), st.integers(2, 9)),
    ratio=st.floats(0.05, 0.95),
    sampling=st.sampled_from(list(masking.SAMPLINGS)),
)
def test_every_sampling_hides_exactly_what_is_asked(grid, ratio, sampling):
    patches = grid[0] * grid[1]
    kept = max(1, masking.kept_patches(patches, ratio))
    noise = masking.SAMPLINGS[sampling](jax.random.key(1), 3, grid)
    masks = masking.from_noise(noise, kept)
    assert noise.shape == (3, patches)
    np.testing.assert_array_equal(masks.mask_BN.sum(1), patches - kept)
    for keep, mask in zip(masks.keep_BK, masks.mask_BN, strict=True):
        np.testing.assert_array_equal(np.sort(keep), np.flatnonzero(mask == 0))


@pytest.mark.parametrize("sampling", masking.SAMPLINGS)
@pytest.mark.parametrize(("grid", "unit"), [((4, 6), 2), ((6, 3), 3), ((4, 4, 4), 2)])
def test_units_are_hidden_together(sampling, grid, unit):
    key, units = jax.random.key(2), tuple(side // unit for side in grid)
    kept, together = masking.kept_patches(np.prod(grid), 0.6, unit ** len(grid)), unit ** len(grid)
    assert kept == int(np.prod(units) * 0.4) * together
    noise = masking.draw(sampling, key, 5, grid, unit)
    found = np.asarray(masking.from_noise(noise, kept).mask_BN).reshape(5, *grid)
    coarse = masking.draw(sampling, key, 5, units)
    expected = np.asarray(masking.from_noise(coarse, kept // together).mask_BN).reshape(5, *units)
    np.testing.assert_array_equal(found, np.kron(expected, np.ones([1] + [unit] * len(grid))))


def test_units_of_equal_noise_stay_whole(monkeypatch):
    monkeypatch.setitem(masking.SAMPLINGS, "equal", lambda key, batch, grid: jnp.zeros((batch, 4)))
    noise = masking.draw("equal", jax.random.key(0), 1, (4, 4), 2)
    mask = np.asarray(masking.from_noise(noise, 4).mask_BN).reshape(4, 4)
    np.testing.assert_array_equal(np.argwhere(mask == 0), [[0, 0], [0, 1], [1, 0], [1, 1]])


def test_units_of_one_patch_are_no_units():
    for name, sample in masking.SAMPLINGS.items():
        noise = masking.draw(name, jax.random.key(1), 2, (3, 5))
        np.testing.assert_array_equal(noise, sample(jax.random.key(1), 2, (3, 5)))


def test_units_that_do_not_divide_the_grid_are_refused():
    message = "mask_unit 4 does not divide the 14 x 16 patches of an image; it must be one of 1, 2$"
    with pytest.raises(ValueError, match=message):
        masking.draw("random", jax.random.key(0), 1, (14, 16), 4)


def test_random_masks_are_uniform():
    noise = masking.random_noise(jax.random.key(0), 4000, (4, 4))
    hidden = np.asarray(masking.from_noise(noise, 4).mask_BN).mean(0)
    # 4000 draws of a coin of .75: a deviation of .0068; five of them are allowed.
    np.testing.assert_allclose(hidden, 0.75, atol=0.034)


@pytest.mark.parametrize("apart", [2, 4])
def test_grid_keeps_one_of_every_two_by_two_or_four_by_four(apart):
    grid = (8, 16)
    kept = grid[0] * grid[1] // apart**2
    mask = masking.from_noise(masking.grid_noise(jax.random.key(0), 1, grid), kept).mask_BN
    visible = np.argwhere(np.asarray(mask).reshape(grid) == 0)
    np.testing.assert_array_equal(visible % apart, 0)


def test_blocks_are_larger_than_random_holes():
    def same_as_right_neighbour(noise):
        mask = np.asarray(masking.from_noise(noise, 98).mask_BN).reshape(-1, 14, 14)
        return (mask[:, :, 1:] == mask[:, :, :-1]).mean()

    key = jax.random.key(0)
    block = same_as_right_neighbour(masking.block_noise(key, 32, (14, 14)))
    random = same_as_right_neighbour(masking.random_noise(key, 32, (14, 14)))
    assert block > 0.75 > random


def test_a_block_covers_5_to_30_percent_and_is_at_most_ten_thirds_as_long():
    noise = np.asarray(masking.block_noise(jax.random.key(0), 256, (60, 60))).reshape(-1, 60, 60)
    first = np.floor(-noise) == 0  # what the first box covers
    rows, columns = first.any(2).sum(1), first.any(1).sum(1)
    share = first.sum((1, 2)) / 3600
    np.testing.assert_array_equal(first.sum((1, 2)), rows * columns)
    # Sides are rounded to whole patches, and the longest cut off at the picture's.
    assert 0.045 < share.min() < 0.07 and 0.28 < share.max() < 0.315
    assert share.mean() == pytest.approx(0.175, abs=0.015)
    ratio = np.maximum(rows / columns, columns / rows)
    assert 2.5 < ratio.max() < 10 / 3 + 0.3
    places = first.argmax(2).max(1), first.argmax(1).max(1)
    assert all(len(np.unique(place)) > 20 for place in places)

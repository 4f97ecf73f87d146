import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mae_jax.train import mixing

SIZE = (20, 30)


def draw(batch=2000, **alphas):
    settings = dict(mixup=0.8, cutmix=1.0, switch=0.5) | alphas
    made = mixing.mixing_draw(jax.random.key(0), batch, SIZE, **settings)
    return {name: np.asarray(value) for name, value in made.items()}


def test_partners_are_a_permutation_that_leaves_nobody_in_its_place():
    draws = jax.vmap(
        lambda key: mixing.mixing_draw(key, 8, SIZE, mixup=0.8, cutmix=0.0, switch=0.5)["partner"]
    )(jax.random.split(jax.random.key(0), 2000))
    np.testing.assert_array_equal(np.sort(draws), np.tile(np.arange(8), (2000, 1)))
    # All others are as likely: 286 of 2000, give or take four standard errors.
    counts = [np.bincount(np.asarray(draws)[:, i], minlength=8) for i in range(8)]
    assert not np.diag(counts).any()
    others = np.array(counts)[~np.eye(8, dtype=bool)]
    assert abs(others - 2000 / 7).max() < 4 * np.sqrt(2000 / 7)


def test_shares_are_of_the_pixels_that_stay():
    made = draw(switch=1.0)
    images, partners = jnp.zeros((2000, *SIZE, 1)), jnp.ones((2000, *SIZE, 1))
    mixed = mixing.mix_images(images, partners, made["share"], made["box"])
    assert set(np.unique(mixed)) == {0.0, 1.0}
    np.testing.assert_allclose(np.asarray(mixed).mean((1, 2, 3)), 1 - made["share"], atol=1e-6)


def test_mixup_blends_whole_images():
    made = draw(cutmix=0.0)
    assert not made["box"].any()
    images, partners = jnp.zeros((2000, *SIZE, 1)), jnp.ones((2000, *SIZE, 1))
    mixed = np.asarray(mixing.mix_images(images, partners, made["share"], made["box"]))
    np.testing.assert_allclose(
        mixed, np.broadcast_to(1 - made["share"][:, None, None, None], mixed.shape), atol=1e-6
    )
    # Beta(.8, .8): mean 1/2, variance 1 / (4 (2 a + 1)).
    assert made["share"].mean() == pytest.approx(0.5, abs=0.03)
    assert made["share"].var() == pytest.approx(1 / (4 * 2.6), abs=0.01)


@pytest.mark.parametrize("switch", [0.25, 0.5])
def test_cutmix_is_taken_as_often_as_asked(switch):
    cut = draw(switch=switch)["box"].any((1, 2))
    # A box can shrink to nothing, if rarely.
    assert cut.mean() == pytest.approx(switch, abs=0.05)


def test_a_cut_that_shrank_to_nothing_changes_nothing():
    images, partners = jnp.zeros((1, *SIZE, 1)), jnp.ones((1, *SIZE, 1))
    box = jnp.array([[[5, 5], [2, 9]]])
    mixed = mixing.mix_images(images, partners, jnp.ones(1), box)
    assert not np.asarray(mixed).any()


def test_erased_boxes():
    boxes = np.asarray(mixing.erasing_boxes(jax.random.key(0), 4000, SIZE, 0.25))
    sides = boxes[..., 1] - boxes[..., 0]
    erased = sides.any(1)
    assert erased.mean() == pytest.approx(0.25, abs=0.03)
    assert (boxes >= 0).all() and (boxes[:, 0] <= SIZE[0]).all() and (boxes[:, 1] <= SIZE[1]).all()
    area = sides[erased].prod(1) / np.prod(SIZE)
    assert area.min() > 0.01 and area.max() < 0.4
    assert (sides[erased] > 0).all() and (sides < SIZE).all()


def test_noise_is_in_the_box_and_of_every_value_its_own():
    images = jnp.full((2, *SIZE, 3), 9.0)
    boxes = jnp.array([[[2, 12], [3, 23]], [[0, 0], [0, 0]]])
    made = np.array(mixing.erase(images, boxes, jnp.array([1, 2], jnp.uint32)))
    inside = made[0, 2:12, 3:23]
    assert abs(inside.mean()) < 0.2 and inside.std() == pytest.approx(1, abs=0.1)
    assert len(np.unique(inside)) == inside.size
    made[0, 2:12, 3:23] = 9
    assert (made == 9).all()

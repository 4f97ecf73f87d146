import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mae_jax.config import default_config, validate
from mae_jax.data import augment, images, loader
from mae_jax.data.jitter import ColourJitter
from mae_jax.data.order import view_rng
from mae_jax.errors import UsageError


@settings(max_examples=200, deadline=None)
@given(height=st.integers(1, 5000), width=st.integers(1, 5000), seed=st.integers(0, 999))
def test_boxes_lie_within_any_image(height, width, seed):
    rng = np.random.default_rng(seed)
    boxes = [
        augment.random_box(height, width, rng),
        augment.central_box(height, width, (6, 8), 0.875),
        augment.fixed_box(height, width, (6, 8), 0.7, rng),
    ]
    for left, top, w, h in boxes:
        assert w > 0 and h > 0 and left >= 0 and top >= 0
        # To the rounding of a fraction.
        assert left + w <= width + 1e-9 and top + h <= height + 1e-9


def test_area_and_aspect_of_boxes_keep_to_their_ranges():
    rng = np.random.default_rng(0)
    boxes = [augment.random_box(200, 300, rng, (0.2, 0.6)) for _ in range(500)]
    _, _, w, h = np.array(boxes, float).T
    assert (w * h).min() / 60_000 > 0.19 and (w * h).max() / 60_000 < 0.61
    assert (w / h).min() > 0.74 and (w / h).max() < 1.35
    # Area is uniform over its range: its mean is the middle.
    assert abs((w * h).mean() / 60_000 - 0.4) < 0.02


def test_fixed_boxes_have_one_size_at_any_place():
    rng = np.random.default_rng(0)
    boxes = np.array([augment.fixed_box(40, 60, (7, 7), 0.7, rng) for _ in range(300)])
    left, top, *sides = boxes.T
    # Resized to 10 x 15, of which 7 x 7 are seen: 4 pixels of the image for each of them.
    np.testing.assert_array_equal(sides, 28)
    assert set(left) == {4.0 * n for n in range(9)} and set(top) == {4.0 * n for n in range(4)}
    assert augment.fixed_box(40, 40, (8, 8), 1.0, rng) == (0, 0, 40, 40)


def picture(**changes):
    config = default_config()
    config.model.image_size, config.data.flip = (8,), False
    config.data.update(changes)
    return loader.Picture.from_config(config)


PHOTO = images.Pixels(np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8))


def view(made, record=0):
    return made.augmented(PHOTO, [view_rng(0, 0, record)])[0]


def test_no_crop_is_the_view_of_evaluation():
    made = picture(crop="none", eval_crop=0.8)
    for record in (0, 1):
        np.testing.assert_array_equal(view(made, record), made.plain(PHOTO))


def test_a_fixed_crop_is_a_part_of_the_resized_image():
    """Of all that it can be, among them the one in the middle."""
    made = picture(crop="fixed", fixed_crop=0.8, eval_crop=0.8)
    views = {view(made, record).tobytes() for record in range(300)}
    assert len(views) == 3 * 6  # 30 x 41 are resized to 10 x 13, of which 8 x 8 are seen
    assert made.plain(PHOTO).tobytes() in views


def test_other_crops_are_mirrored_as_random_ones_are():
    for crop in ("none", "fixed"):
        one, other = picture(crop=crop), picture(crop=crop, flip=True)
        views = [(view(one, record), view(other, record)) for record in range(20)]
        turned = [(a[:, ::-1] == b).all() for a, b in views]
        assert all(t or (a == b).all() for t, (a, b) in zip(turned, views, strict=True))
        assert 4 < sum(turned) < 16


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_change_by_the_formulas(channels):
    def grey(x):
        return x @ [0.299, 0.587, 0.114] if channels == 3 else x[..., 0]

    ways = [
        lambda x, f: f * x,
        lambda x, f: grey(x).mean() + f * (x - grey(x).mean()),
        lambda x, f: grey(x)[..., None] + f * (x - grey(x)[..., None]),
    ]
    seen, pixels = [], np.random.default_rng(1).integers(60, 190, (9, 7, channels), np.uint8)
    for seed in range(20):
        found = ColourJitter(0.3).on_pixels(pixels, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        factors, expected = rng.uniform(0.7, 1.3, 3), pixels.astype(float)
        for way in rng.permutation(3):
            expected = np.clip(ways[way](expected, factors[way]), 0, 255)
        assert np.abs(found - expected).max() < 5 and found.dtype == np.uint8
        seen.append(found.astype(float).mean() / pixels.mean())
    assert 0.7 < min(seen) < 0.85 and 1.15 < max(seen) < 1.35


def test_jitter_comes_last_and_follows_from_the_sample():
    plain, jittered = picture(randaugment=2), picture(randaugment=2, color_jitter=0.4)
    for record in (0, 1):
        again = view(jittered, record)
        np.testing.assert_array_equal(view(jittered, record), again)
        assert (view(plain, record) != again).any()
    rng = view_rng(0, 0, 0)
    without = plain.augmented(PHOTO, [rng])[0]
    np.testing.assert_array_equal(ColourJitter(0.4).on_pixels(without, rng), view(jittered))


@pytest.mark.parametrize("name", ["color_jitter", "randaugment"])
def test_colours_of_what_has_none_are_refused(name):
    config = default_config()
    config.data.name, config.train.epochs, config.data[name] = "mnist", 1.0, 1
    validate(config)
    config.model.channels = 5
    with pytest.raises(UsageError, match=f"data.{name} 1.* needs grey or colour images; .* is 5"):
        validate(config)
    config.data.pixels, config.data.mean, config.data.std = "float32", (0.5,), (0.5,)
    with pytest.raises(UsageError, match=f"data.{name} 1.* works on uint8, .* set data.{name}=0"):
        validate(config)


def test_the_whole_image_can_be_asked_for():
    rng = np.random.default_rng(0)
    assert augment.random_box(8, 8, rng, (1.0, 1.0), (1.0, 1.0)) == (0, 0, 8, 8)


def test_central_boxes_are_central_and_undistorted():
    assert augment.central_box(100, 200, (10, 10), 0.5) == (75, 25, 50, 50)
    assert augment.central_box(100, 200, (10, 20), 1.0) == (0, 0, 200, 100)


def test_central_boxes_are_the_published_ones():
    # 375 x 500 becomes 256 x 341, of which columns 58 to 282 and rows 16 to 240 are cut out.
    box = augment.central_box(375, 500, (224, 224), 0.875)
    columns, rows = 500 / 341, 375 / 256
    np.testing.assert_allclose(box, (58 * columns, 16 * rows, 224 * columns, 224 * rows))
    turned = augment.central_box(500, 375, (224, 224), 0.875)
    np.testing.assert_allclose(turned, np.array(box)[[1, 0, 3, 2]])


def test_a_share_read_from_two_sizes_gives_them_back():
    assert augment.resized_side(224, 0.875) == 256 and augment.resized_side(32, 0.875) == 36
    for side in range(1, 300):
        for whole in range(side, 2 * side + 1):
            assert augment.resized_side(side, side / whole) == whole


def test_the_view_of_a_whole_image_of_its_own_size_is_the_image():
    for height, width in ((8, 8), (37, 53), (448, 224)):
        assert augment.central_box(height, width, (height, width), 1.0) == (0, 0, width, height)


def test_an_image_too_long_for_any_try_gives_its_middle():
    left, top, w, h = augment.random_box(1, 5000, np.random.default_rng(0))
    assert (top, h) == (0, 1) and w <= 2 and abs(left - 2500) <= 1

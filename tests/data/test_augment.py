import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mae_jax.data import augment


@settings(max_examples=200, deadline=None)
@given(height=st.integers(1, 5000), width=st.integers(1, 5000), seed=st.integers(0, 999))
def test_boxes_lie_within_any_image(height, width, seed):
    rng = np.random.default_rng(seed)
    boxes = [
        augment.random_box(height, width, rng),
        augment.central_box(height, width, (6, 8), 0.875),
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

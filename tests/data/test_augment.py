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
        assert w >= 1 and h >= 1 and left >= 0 and top >= 0
        assert left + w <= width and top + h <= height


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


def test_an_image_too_long_for_any_try_gives_its_middle():
    left, top, w, h = augment.random_box(1, 5000, np.random.default_rng(0))
    assert (top, h) == (0, 1) and w <= 2 and abs(left - 2500) <= 1

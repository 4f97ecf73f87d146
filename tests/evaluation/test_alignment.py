"""Copies agree where they lie on each other, others do not."""

import numpy as np
import pytest
from PIL import Image

from mae_jax.evaluation import alignment, planted
from mae_jax.inference import altered

SIDE = alignment.SIDE


@pytest.fixture(scope="module")
def pictures():
    """Sixteen pieces of a photograph, (16, 96, 96, 1) uint8."""
    from sklearn.datasets import load_sample_images

    whole = Image.fromarray(load_sample_images().images[1]).convert("L")
    return np.stack(
        [
            np.asarray(whole.crop((x, y, x + 96, y + 96)))[..., None]
            for x in range(0, 400, 100)
            for y in range(0, 400, 100)
        ]
    )


def small(images):
    return np.stack(
        [
            np.asarray(Image.fromarray(x[..., 0]).resize((SIDE, SIDE)), np.float32) / 255
            for x in images
        ]
    )


@pytest.mark.parametrize("kind", list(planted.KINDS))
def test_copies_and_others(pictures, kind):
    rng = np.random.default_rng(0)
    first, copies = small(pictures), small([planted.KINDS[kind](x, rng) for x in pictures])
    if kind == "mirror":
        first = first[:, :, ::-1]
    begins = [altered.BOXES[name] for name in altered.names((altered.CROPPED,))]
    begins = begins if kind == "crop" else [(1.0, 0.0, 0.0)]
    boxes = [np.tile(begin, (len(first), 1)) for begin in begins]
    found = np.max([alignment.correlation(first, copies, box) for box in boxes], axis=0)
    assert found.min() > 0.94 and np.median(found) > 0.98, found
    others = np.roll(copies, 1, axis=0)
    found = np.max([alignment.correlation(first, others, box) for box in boxes], axis=0)
    assert found.max() < 0.9, found


def test_flat_pictures_agree_with_nothing(pictures):
    first = small(pictures)[:2]
    boxes = np.tile((1.0, 0.0, 0.0), (2, 1))
    assert alignment.correlation(first, np.zeros_like(first), boxes).tolist() == [0, 0]
    assert alignment.correlation(first[:0], first[:0], boxes[:0]).shape == (0,)


def test_what_jpeg_cannot_hold_is_left_out(pictures):
    rng = np.random.default_rng(0)
    assert planted.jpeg(pictures[0].astype(np.float32), rng) is None
    assert planted.jpeg(np.repeat(pictures[0], 5, axis=-1), rng) is None

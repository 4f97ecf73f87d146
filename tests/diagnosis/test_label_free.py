"""What is measured without labels: ranks, likeness, free predictions, bands, images."""

import numpy as np
import pytest

from mae_jax.diagnosis import bands, free, pictures, tally
from mae_jax.evaluation import rank
from mae_jax.models import patches
from mae_jax.models.targets import Target
from mae_jax.pixels import Pixels

RNG = np.random.default_rng(0)
GREY = Pixels((16, 16), 1, mean=(0.5,), std=(0.25,))


def test_rank():
    turned = np.linalg.qr(RNG.standard_normal((64, 64)))[0]
    assert rank.rankme(turned[:, :20]) == pytest.approx(20, rel=0.01)
    one = RNG.standard_normal((64, 1)) @ RNG.standard_normal((1, 20))
    assert rank.rankme(one) == pytest.approx(1, abs=0.01)
    assert rank.largest_share(one) == pytest.approx(1)
    some = RNG.standard_normal((500, 10)) * np.arange(1, 11)
    assert rank.largest_share(some, 10) == pytest.approx(1)
    assert 0.2 < rank.largest_share(some) < 0.35  # 100 of 385
    assert rank.spread(np.ones((5, 3))) == 0
    assert np.isnan(rank.rankme(one * np.nan)) and np.isnan(rank.largest_share(one * np.inf))
    assert rank.spread(some) > 0.9


def test_likeness_is_of_what_is_told_apart():
    features = RNG.standard_normal((60, 12))
    turned = 3 * features @ np.linalg.qr(RNG.standard_normal((12, 12)))[0] + 5
    assert rank.alike(features, turned) == pytest.approx(1)
    assert rank.alike(features, RNG.standard_normal((60, 12))) < 0.4
    assert rank.alike(features, RNG.standard_normal((60, 30))) < 0.5


def losses(made, true, mask, *, norm_pix):
    """Of every prediction."""
    target, sums = Target(true.shape[-1], norm_pix=norm_pix), tally.Tally()
    counted = np.broadcast_to(mask[..., None] > 0, true.shape)
    for name, values in made.items():
        guess = np.asarray(target(np.ascontiguousarray(values)))
        sums.add(name, guess, np.asarray(target(true)), counted)
    return {name: sums.loss(name, scaled=norm_pix) for name in sums.names()}


def test_free_predictions():
    """A ramp is continued by interpolation, and its patches are all alike but for their mean."""
    ramp = np.broadcast_to(np.linspace(-1, 1, 16, dtype=np.float32)[:, None], (16, 16))
    images = np.stack([ramp, -ramp])[..., None]
    mask = np.zeros((2, 16), np.float32)
    mask[:, [5, 6, 10]] = 1
    made = free.predictions(images, mask, (4, 4), np.zeros((16, 16, 1), np.float32))
    true = np.asarray(patches.patchify(images, (4, 4)))
    found = losses(made, true, mask, norm_pix=False)
    assert found["mean image"] == pytest.approx(np.square(true[mask > 0]).mean())
    assert found["smooth interpolation"] < 0.2 * found["mean image"]

    found = losses(made, true, mask, norm_pix=True)
    assert found["mean of the patch"] == pytest.approx(15 / 16, abs=1e-3)  # unbiased variance
    assert found["nearest visible patch"] == pytest.approx(0, abs=1e-3)


def test_the_nearest_visible_patch():
    """Beside patch 5 are 1 and 4, as 6 and 9 are hidden too; what is visible is its own nearest."""
    images = RNG.standard_normal((1, 16, 16, 1)).astype(np.float32)
    mask = np.zeros((1, 16), np.float32)
    mask[:, [5, 6, 9]] = 1
    made = free.predictions(images, mask, (4, 4), np.zeros((16, 16, 1), np.float32))
    true, shown = np.asarray(patches.patchify(images, (4, 4)))[0], made["nearest visible patch"][0]
    np.testing.assert_array_equal(shown[0], true[0])
    assert any((shown[5] == true[place]).all() for place in (1, 4))


def explained(pred, true, size):
    return bands.explained(bands.power(pred - true, size), bands.power(true, size))


def test_bands():
    true = RNG.standard_normal((50, 8 * 8 * 3)).astype(np.float32)
    assert all(share == 1 for share, _ in explained(true, true, (8, 8)).values())
    assert all(share == 0 for share, _ in explained(0 * true, true, (8, 8)).values())
    waves = np.cos(np.pi * (np.arange(8) + 0.5) * np.array([[1], [7]]) / 8)  # slow, and fast
    slow, fast = (np.broadcast_to(w[:, None], (8, 8)).reshape(1, 64) for w in waves)
    found = explained(slow, slow + fast, (8, 8))
    assert found["coarse"] == (pytest.approx(1), pytest.approx(0.5))
    assert found["fine"] == (pytest.approx(0), pytest.approx(0.5))
    assert sum(share for _, share in found.values()) == pytest.approx(1)
    assert explained(true[:, :12], true[:, :12], (2, 2)).keys() == {"fine"}


def look(images, pixels=GREY, labels=None, sound=None):
    count = len(images)
    labels = np.full(count, -1) if labels is None else np.array(labels)
    sound = np.ones(count, bool) if sound is None else np.array(sound)
    return pictures.look(images, sound, labels, pixels, 3)


def smooth(count, low=0, high=255):
    x = RNG.random((count, 1, 1, 1)) * 6 + np.linspace(0, 5, 16).reshape(1, 16, 1, 1)
    waves = np.sin(x + np.linspace(0, 3, 16).reshape(1, 1, 16, 1))
    return (low + (waves + 1) / 2 * (high - low)).astype(np.uint8)


def test_images():
    good = look(smooth(20), labels=[0, 1, 2, 1] * 5)
    assert good.images == 20 and good.classes == 3 and good.neighbours > 0.8
    assert good.blank == good.repeated == good.broken == 0 and good.alike < 0.3
    assert good.shift < 0.3 and 1 < good.scale < 2
    assert look(np.full((4, 16, 16, 1), 9, np.uint8)).blank == 1
    assert look(np.repeat(smooth(2), 10, 0)).repeated == 0.9
    assert abs(look(RNG.integers(0, 256, (9, 16, 16, 1), np.uint8)).neighbours) < 0.1
    assert look(smooth(4), sound=[True, False, False, True]).broken == 0.5
    assert look(smooth(20, 0, 20)).shift > 1.5 and look(smooth(20, 120, 132)).scale < 0.2
    assert look(smooth(3), labels=[1, 1, 1]).classes == 1
    assert look(smooth(3)).classes is None
    assert look(smooth(3), sound=[False] * 3).images == 0


def test_images_of_floats_without_some_of_their_data():
    pixels = Pixels((16, 16), 1, kind="float32", mean=(100.0,), std=(50.0,), nodata="nan")
    images = smooth(10).astype(np.float32)
    images[:, :8] = np.nan
    seen = look(images, pixels)
    known = images[:, 8:]
    assert seen.shift == pytest.approx(abs(known.mean() - 100) / 50, rel=1e-3)
    assert seen.scale == pytest.approx(known.std() / 50, rel=1e-3)

import numpy as np
import pytest
from PIL import Image

from mae_jax.config import default_config
from mae_jax.data import loader
from mae_jax.data.randaugment import OPERATIONS, RandAugment
from mae_jax.data.sources import ArraySource


def picture(mode="RGB", size=(40, 30)):
    rng = np.random.default_rng(0)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(rng.integers(0, 256, shape, np.uint8))


def augment(**changes):
    settings = dict(operations=2, magnitude=9.0, deviation=0.5, share=0.5, fill=(124, 116, 104))
    return RandAugment(**settings | changes)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_size_and_mode(name, mode):
    fill = 7 if mode == "L" else (7, 8, 9)
    for level in (0.0, 0.5, 1.0):
        for sign in (1, -1):
            made = OPERATIONS[name](picture(mode), level, sign, fill)
            assert (made.size, made.mode) == ((40, 30), mode)


def test_strength_grows():
    grey = picture("L")
    values = np.asarray(grey)

    def made(name, level):
        return np.asarray(OPERATIONS[name](grey, level, 1, 0)).astype(int)

    np.testing.assert_array_equal(made("Posterize", 0.0), values & 0xF0)
    np.testing.assert_array_equal(made("Posterize", 0.6), values & 0xC0)
    assert not made("Posterize", 1.0).any()
    np.testing.assert_array_equal(
        made("Solarize", 0.5), np.where(values < 128, values, 255 - values)
    )
    np.testing.assert_array_equal(
        made("SolarizeAdd", 1.0), np.where(values < 128, values + 110, values)
    )
    # Away from its border a shift by 45 % of the width is one.
    np.testing.assert_array_equal(made("TranslateX", 1.0)[:, :20], values[:, 18:38])


def test_nothing_happens_without_operations_or_luck():
    rng = np.random.default_rng(0)
    for nothing in (augment(operations=0), augment(share=0.0)):
        assert nothing(picture(), rng) == picture()


def test_draws_are_the_generators_alone():
    def made(seed):
        one = augment(operations=3, share=1.0)(picture(), np.random.default_rng(seed))
        return np.asarray(one).tobytes()

    assert made(1) == made(1)
    assert len({made(seed) for seed in range(10)}) == 10


def test_batches_are_a_function_of_seed_and_step():
    config = default_config()
    config.model.image_size, config.data.randaugment = (16,), 2
    picture = loader.Picture.from_config(config)
    assert picture.randaugment.fill == (124, 116, 104)
    images = np.random.default_rng(0).integers(0, 256, (8, 20, 20, 3), np.uint8)
    source = ArraySource(images, range(8), "abcdefgh")

    def batches(seed):
        made = loader.TrainBatches(source, picture, batch_size=4, seed=seed, steps=4)
        return [made[step]["image"] for step in (3, 1)]

    for one, other in zip(batches(5), batches(5), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(batches(5)[0], batches(6)[0])

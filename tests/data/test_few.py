import numpy as np
import pytest

from mae_jax.config import default_config
from mae_jax.data import few, loader, sources
from mae_jax.errors import UsageError
from mae_jax.pixels import Pixels


def data(**settings):
    section = default_config().data
    for name, value in settings.items():
        section[name] = value
    return section


@pytest.fixture(scope="module")
def digits(tfds_dir):
    return sources.TfdsSource("handwritten_digits", "train", tfds_dir)


def test_labels_are_drawn_per_class(digits):
    draws = [
        few.few_labels(digits, data(labels_per_class=10, label_draw=draw)) for draw in (0, 0, 1)
    ]
    for draw in draws:
        np.testing.assert_array_equal(np.bincount(draw.labels()), [10] * 10)
        assert draw[3].label == draw.labels()[3]
    assert draws[0].fingerprint() == draws[1].fingerprint() != draws[2].fingerprint()
    assert few.few_labels(digits, data()) is digits


def test_a_share_is_of_every_class(digits):
    part = few.few_labels(digits, data(labels_share=0.1))
    whole = np.bincount(digits.labels())
    np.testing.assert_array_equal(np.bincount(part.labels()), np.round(whole * 0.1))
    assert set(few.draw(np.array([0, 0, 1]), "ab", share=0.01)) <= {0, 1, 2}
    assert len(few.draw(np.array([0, 0, 1]), "ab", share=0.01)) == 2


def labelled(count):
    pixels = np.zeros((count, 2, 2, 1), np.uint8)
    return sources.ArraySource(pixels, np.arange(count) % 2, ["a", "b"])


def test_few_labels_of_a_mixture_keep_its_shares():
    """Nine of ten images come from the first set, however many of either were drawn."""
    mixture = sources.Mixture([labelled(40), labelled(60)], [9.0, 1.0])
    some = few.few_labels(mixture, data(labels_per_class=20))
    assert some.shares == (9.0, 1.0) and sum(some.parts) == len(some) == 40
    picture = loader.Picture(Pixels((2, 2), 1))
    batches = loader.TrainBatches(some, picture, batch_size=40, seed=0, steps=5)
    drawn = [record < some.parts[0] for step in range(5) for record in records(batches, step)]
    assert np.mean(drawn) == 0.9
    with pytest.raises(UsageError, match="takes no record of 1 of the sets of data.mixture"):
        few.few_labels(
            sources.Mixture([labelled(2), labelled(1000)], [1.0, 1.0]), data(labels_per_class=1)
        )


def records(batches, step):
    return [batches._order(step * 40 + row)[1] for row in range(40)]


def test_too_many_labels_or_none(digits):
    with pytest.raises(UsageError, match="labels_per_class 1000 is more than the .* of class '0'"):
        few.few_labels(digits, data(labels_per_class=1000))
    bare = sources.ArraySource(np.zeros((3, 2, 2, 1), np.uint8))
    for setting in ({"labels_per_class": 1}, {"labels_share": 0.5}):
        with pytest.raises(UsageError, match="needs labelled data"):
            few.few_labels(bare, data(**setting))

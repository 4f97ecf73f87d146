"""What every source says of itself, by one protocol."""

import pickle

import numpy as np
import pytest
from PIL import Image

from mae_jax.data import sources, tables, together
from mae_jax.data.describe import describe
from mae_jax.data.records import NO_LABEL, Source


def arrays(count, classes=("a", "b")):
    labels = np.arange(count) % 2 if classes else None
    return sources.ArraySource(np.zeros((count, 2, 2, 1), np.uint8), labels, classes)


@pytest.fixture
def made(tmp_path, tfds_dir):
    """One of every class of sources, by its name."""
    for name in ("cat/1.png", "dog/2.png", "dog/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    mixture = sources.Mixture([arrays(4), arrays(6)], [3.0, 1.0])
    every = [
        sources.FolderSource(str(tmp_path), "all"),
        sources.open_images(tmp_path / "cat" / "1.png"),
        sources.TfdsSource("handwritten_digits", "test[:20]", tfds_dir),
        arrays(5),
        mixture,
        sources.Subset(mixture, [0, 3, 5]),
        together.Together([arrays(3), arrays(2, ()), arrays(4, ("b", "c"))], ["x", "y", "z"]),
        tables.Labelled(arrays(4, ()), {"array[1]": "cat", "array[3]": "dog"}),
    ]
    return {type(source).__name__: source for source in every}


def test_every_source_fulfils_the_protocol(made):
    ours = {c.__name__ for c in Source.__subclasses__() if c.__module__.startswith("mae_jax.")}
    assert ours == set(made)  # a new one belongs here
    for source in made.values():
        assert isinstance(source, Source)
        source = pickle.loads(pickle.dumps(source))
        labels, known = source.labels(), source.known_labels()
        assert len(source) == len(labels) == sum(source.parts) and labels.dtype == np.int32
        assert known is None or np.array_equal(known, labels)
        assert source.shares is None or len(source.shares) == len(source.parts)
        for index in (0, len(source) - 1):
            record = source[index]
            assert record.label == labels[index] and record.name == source.name(index)
        if source.classes:
            assert labels.min() >= NO_LABEL and labels.max() == len(source.classes) - 1
            assert not source.unlabelled
        else:
            assert (labels == NO_LABEL).all()
        assert source.fingerprint() == source.fingerprint() and describe(source)


def test_a_subset_of_a_mixture_keeps_its_sets():
    mixture = sources.Mixture([arrays(4), arrays(6), arrays(8)], [3.0, 1.0, 2.0])
    some = sources.Subset(mixture, [1, 2, 3, 12])
    assert some.parts == (3, 1) and some.shares == (3.0, 2.0)
    assert sources.Subset(some, [0, 3]).parts == (1, 1)
    assert sources.Subset(arrays(4), [3, 0]).parts == (2,)
    with pytest.raises(ValueError, match="one after the other"):
        sources.Subset(mixture, [12, 1])


def test_a_source_says_why_it_has_no_labels():
    assert arrays(2, ()).no_labels() == "needs labelled data, and this has none"
    mixture = sources.Mixture([arrays(4), arrays(6, ("x", "y"))], [1.0, 1.0])
    assert mixture.no_labels().endswith("has none: its sets have different classes")


def test_a_run_says_what_its_data_is(tfds_dir, made):
    assert describe(made["FolderSource"]) == "3 images of 2 classes: cat (1), dog (2)"
    assert describe(made["FileSource"]) == "1 image, without labels"
    assert describe(made["Mixture"]) == (
        "10 images (4 + 6, in shares of 75% + 25%) of 2 classes: a (5), b (5)"
    )
    many = [f"c{i}" for i in range(30)]
    source = sources.ArraySource(np.zeros((60, 1, 1, 1)), np.arange(60) // 2 % 29, many)
    assert describe(source) == (
        "60 images of 30 classes: c0 (4), c1 (2), c2 (2), c3 (2), c4 (2), c5 (2), c6 (2), c7 (2), "
        "c8 (2), c9 (2) and 20 more, with 0 to 4 images each"
    )
    unlabelled = sources.ArraySource(np.zeros((3, 1, 1, 1)), [0, NO_LABEL, 0], ["new\nline"])
    assert describe(unlabelled) == "3 images of 1 class: new\\nline (2); 1 have no label"

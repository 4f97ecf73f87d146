import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mae_jax.data import loader, sources
from mae_jax.errors import BrokenRecord

PICTURE = loader.Picture((4, 4), 1, (0.3, 1.0), (3 / 4, 4 / 3), True, 1.0)


def arrays(count):
    """Images of noise whose labels are their indices."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 1), np.uint8)
    return sources.ArraySource(pixels, np.arange(count), [str(i) for i in range(count)])


def batches(count=30, **changes):
    settings = dict(batch_size=8, seed=0, steps=20)
    return loader.TrainBatches(arrays(count), PICTURE, **settings | changes)


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


@settings(max_examples=20, deadline=None)
@given(records=st.integers(1, 40), batch_size=st.integers(1, 17), seed=st.integers(0, 2**32 - 1))
def test_every_record_once_per_epoch(records, batch_size, seed):
    epochs = 3
    steps = -(-records * epochs // batch_size)
    made = loader.TrainBatches(
        arrays(records), PICTURE, batch_size=batch_size, seed=seed, steps=steps
    )
    seen = np.concatenate([made[s]["label"] for s in range(steps)])[: records * epochs]
    for epoch in seen.reshape(epochs, records):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(records))


def test_batches_are_uint8_of_the_asked_shape():
    batch = batches()[0]
    assert batch["image"].shape == (8, 4, 4, 1) and batch["image"].dtype == np.uint8
    assert batch["label"].shape == (8,) and batch["label"].dtype == np.int32


def test_epochs_and_seeds_have_orders_of_their_own():
    first, other = batches(batch_size=30), batches(batch_size=30, seed=1)
    orders = [tuple(b["label"]) for b in (first[0], first[1], first[2], other[0], other[1])]
    assert len(set(orders)) == 5


def test_a_batch_is_a_function_of_its_step():
    made = batches()
    listed = list(made.iterate(0, 0))
    assert len(listed) == 20
    assert all(same(made[s], listed[s]) for s in (19, 0, 7))
    assert all(same(a, b) for a, b in zip(made.iterate(13, 0), listed[13:], strict=True))


def test_augmentation_is_keyed_by_epoch_and_record_alone():
    def views(batch_size):
        made = loader.TrainBatches(
            arrays(30), PICTURE, batch_size=batch_size, seed=5, steps=60 // batch_size
        )
        everything = [made[s] for s in range(60 // batch_size)]
        return np.concatenate([b["image"] for b in everything])

    np.testing.assert_array_equal(views(6), views(15))


def test_hosts_shares_put_together_are_the_batch():
    whole = batches()
    shares = [np.array([0, 2, 5]), np.array([1, 3, 4, 6, 7])]
    parts = [batches(rows=rows) for rows in shares]
    for step in (0, 3, 11):
        for name, values in whole[step].items():
            for rows, part in zip(shares, parts, strict=True):
                np.testing.assert_array_equal(values[rows], part[step][name])


def test_shares_of_plain_batches():
    whole = list(loader.plain_batches(arrays(13), PICTURE, 8))
    part = list(loader.plain_batches(arrays(13), PICTURE, 8, rows=[1, 6]))
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a["image"][[1, 6]], b["image"])
        np.testing.assert_array_equal(a["label"][[1, 6]], b["label"])
        np.testing.assert_array_equal(a["weight"], b["weight"])


def test_cache_changes_nothing():
    assert same(batches(cache=True)[9], batches()[9])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_worker_processes_change_nothing(workers):
    made = batches(steps=7)
    got = list(made.iterate(2, workers))
    assert len(got) == 5
    assert all(same(made[2 + i], batch) for i, batch in enumerate(got))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_broken_image_is_named(tmp_path, workers):
    (tmp_path / "bad.png").write_bytes(b"no")
    source = sources.FolderSource(str(tmp_path), "all")
    made = loader.TrainBatches(source, PICTURE, batch_size=1, seed=0, steps=1)
    with pytest.raises(BrokenRecord, match=r"^bad\.png: "):
        list(made.iterate(0, workers))


@given(records=st.integers(1, 25), batch_size=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_plain_batches_count_every_record_once(records, batch_size):
    made = list(loader.plain_batches(arrays(records), PICTURE, batch_size))
    assert {b["image"].shape for b in made} == {(batch_size, 4, 4, 1)}
    counted = np.concatenate([b["label"][b["weight"] > 0] for b in made])
    np.testing.assert_array_equal(counted, np.arange(records))

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mae_jax.data import loader, processes, sources
from mae_jax.data.order import Order, view_rng
from mae_jax.errors import UsageError
from mae_jax.pixels import Pixels

PICTURE = loader.Picture(Pixels((4, 4), 1, crop=1.0), (0.3, 1.0), (3 / 4, 4 / 3), True)


def arrays(count):
    """Images of noise whose labels are their indices."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 1), np.uint8)
    return sources.ArraySource(pixels, np.arange(count), [str(i) for i in range(count)])


def batches(count=30, **changes):
    settings = dict(batch_size=8, seed=0, steps=20)
    return loader.TrainBatches(arrays(count), PICTURE, **settings | changes)


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in ("image", "label"))


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


def jpegs(folder, count=12):
    """A folder of JPEG files large enough to be decoded in part."""
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8))
        coarse.resize((70 + index, 50)).save(folder / f"{index:02d}.jpg")
    return sources.FolderSource(str(folder), "all")


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "start"), [(1, 0), (4, 3)])
def test_worker_processes_change_nothing(tmp_path, workers, start):
    colour = dataclasses.replace(PICTURE, pixels=Pixels((9, 8), 3, crop=1.0))
    made = loader.TrainBatches(jpegs(tmp_path), colour, batch_size=67, seed=3, steps=7, repeats=2)
    expected = list(made.iterate(start, 0))
    got = list(made.iterate(start, workers))
    assert len(got) == len(expected) == 7 - start
    assert all(same(a, b) for a, b in zip(expected, got, strict=True))


@settings(max_examples=25, deadline=None)
@given(
    records=st.integers(1, 23), batch_size=st.integers(1, 12), hosts=st.sampled_from([1, 2, 4]),
    start=st.integers(0, 9), repeats=st.integers(1, 3), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_share_of_any_batch_after_any_resume(records, batch_size, hosts, start, repeats, seed):
    options = dict(batch_size=batch_size, seed=seed, steps=10, repeats=repeats)
    whole = loader.TrainBatches(arrays(records), PICTURE, **options)
    expected = [whole[step] for step in range(10)]
    shares = np.array_split(np.random.default_rng(seed).permutation(batch_size), hosts)
    for rows in shares:
        part = loader.TrainBatches(arrays(records), PICTURE, **options, rows=rows)
        if not len(rows):
            continue
        for step, batch in enumerate(part.iterate(start, 0), start):
            for name in batch:
                np.testing.assert_array_equal(expected[step][name][rows], batch[name])


def test_repeats_are_views_of_one_record_each_of_its_own():
    made = batches(batch_size=12, repeats=3)[0]
    labels = made["label"].reshape(4, 3)
    assert (labels == labels[:, :1]).all() and len(set(labels[:, 0])) == 4
    views = made["image"].reshape(4, 3, -1)
    assert not any(np.array_equal(v[0], v[1]) for v in views)
    # The first of them is the only one there would be without.
    order = [batches(batch_size=4)[0]["image"][i].ravel() for i in range(4)]
    np.testing.assert_array_equal(order, views[:, 0])


@settings(max_examples=25, deadline=None)
@given(parts=st.lists(st.integers(5, 40), min_size=2, max_size=4), data=st.data())
def test_mixtures_take_their_shares_and_every_record_in_turn(parts, data):
    shares = data.draw(
        st.lists(st.floats(0.2, 3), min_size=len(parts), max_size=len(parts)), label="shares"
    )
    order = Order(7, parts, shares)
    epochs = 6
    starts = np.cumsum([0, *parts])
    seen = [order(visit)[1] for visit in range(epochs * sum(parts))]
    for part, share in enumerate(shares):
        mine = [r for r in seen if starts[part] <= r < starts[part + 1]]
        wanted = share / sum(shares) * len(seen)
        assert abs(len(mine) - wanted) <= epochs
        counts = np.bincount(np.array(mine) - starts[part], minlength=parts[part])
        # Epochs of the mixture shuffle, so that a record may come once more or less meanwhile.
        assert counts.max() - counts.min() <= 1


def test_a_seeds_order_and_crops_are_those_of_every_version():
    # Runs resume with a newer version, of this package or of numpy, in the middle of an epoch.
    order, mixed = Order(7, [10]), Order(7, [4, 2], [1, 1])
    assert [order(visit) for visit in (0, 1, 2, 10, 11)] == [(0, 6), (0, 5), (0, 8), (1, 6), (1, 2)]
    assert [mixed(visit) for visit in range(5)] == [(0, 2), (0, 1), (0, 0), (0, 5), (1, 4)]
    drawn = [
        view_rng(7, 3, 5, *repeat).integers(0, 1000, 3).tolist() for repeat in ((), (0,), (1,))
    ]
    assert drawn == [[257, 203, 607], [257, 203, 607], [263, 429, 984]]


def test_an_order_that_was_used_is_sent_as_one_that_was_not():
    used, fresh = Order(7, [1000]), pickle.dumps(Order(7, [1000]))
    used(0)
    assert pickle.dumps(used) == fresh and pickle.loads(fresh)(3) == used(3)


def test_a_set_too_light_to_be_seen_is_refused():
    with pytest.raises(
        UsageError, match="^data.mixture has a set of 2 records whose weight is too small for one "
        "of them to be seen in an epoch$",
    ):  # fmt: skip
        Order(0, [1000, 2, 3], [1, 1e-9, 1e-9])


def test_default_workers_follow_the_cores(monkeypatch):
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert loader.default_workers(cache=False) == 6 and loader.default_workers(cache=True) == 0
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert loader.default_workers(cache=False) == 0


@given(records=st.integers(1, 25), batch_size=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_plain_batches_count_every_record_once(records, batch_size):
    made = list(loader.plain_batches(arrays(records), PICTURE, batch_size))
    assert {b["image"].shape for b in made} == {(batch_size, 4, 4, 1)}
    counted = np.concatenate([b["label"][b["weight"] > 0] for b in made])
    np.testing.assert_array_equal(counted, np.arange(records))

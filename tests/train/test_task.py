import dataclasses

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mae_jax.errors import UsageError
from mae_jax.parallel import Layout
from mae_jax.train import fits
from mae_jax.train.task import prepare


@pytest.fixture
def task(digits_config):
    """100 images in batches of 16: 6.25 steps an epoch."""
    digits_config.train.steps, digits_config.train.epochs = None, 3.0
    return prepare(digits_config, 1)


def test_a_warm_up_that_is_longer_than_the_run_is_refused(digits_config):
    digits_config.train.warmup_epochs = 2.0
    with pytest.raises(UsageError, match=r"warmup_epochs 2, 12 steps, is longer .* run of 8 steps"):
        prepare(digits_config, 1)
    digits_config.train.warmup_steps = 9
    with pytest.raises(UsageError, match=r"train\.warmup_steps 9 is longer"):
        prepare(digits_config, 1)


def test_a_batch_that_no_memory_can_hold_is_refused(digits_config, monkeypatch):
    digits_config.data.batch_size = 10**9
    with pytest.raises(UsageError, match="1000000000 is more than 100 times the 100 images"):
        prepare(digits_config, 1)
    digits_config.data.batch_size = 64
    monkeypatch.setattr(fits, "machine_memory", lambda: 8_000)
    with pytest.raises(UsageError, match="takes at least .* GiB of pixels at a time, .* has"):
        prepare(digits_config, 1)


def test_a_batch_larger_than_the_data_is_said(digits_config):
    digits_config.data.batch_size = 128
    task = prepare(digits_config, 8)
    said = task.described(Layout.of(task.split))
    assert "data.batch_size 128 is more than the 100 images of an epoch" in said


def due(task, epochs):
    return [step for step in range(1, task.steps + 1) if task.is_due(step, epochs)]


def test_the_last_multiple_of_an_interval_is_the_last_step(task):
    assert task.steps == 19
    assert due(task, 1.0) == [6, 12, 19]
    assert due(task, 1.5) == [9, 19]
    assert due(task, 2.0) == [12]
    assert due(task, 0.1) == list(range(1, 20))


def test_the_demo_is_measured_once_at_its_end(task):
    demo = dataclasses.replace(task, steps=6736, steps_per_epoch=1437 / 64)
    assert due(demo, 100.0) == [2245, 4491, 6736]


@given(
    images=st.integers(1, 300), batch_size=st.integers(1, 100), interval=st.integers(1, 5),
    count=st.integers(1, 5),
)  # fmt: skip
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_interval_is_due_as_often_as_it_fits(task, images, batch_size, interval, count):
    assume(images > batch_size)
    steps_per_epoch = images / batch_size
    steps = round(count * interval * steps_per_epoch)
    made = dataclasses.replace(task, steps=steps, steps_per_epoch=steps_per_epoch)
    steps_due = due(made, float(interval))
    assert len(steps_due) == count and steps_due[-1] == steps

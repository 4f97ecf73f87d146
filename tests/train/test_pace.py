import pytest

from mae_jax.train import pace
from mae_jax.train.pace import Pace


@pytest.fixture
def clock(monkeypatch):
    """The time, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now[0])
    return now


def test_a_line(clock):
    made = Pace(steps=400, steps_per_epoch=50, batch_size=32)
    clock[0] = 5.0  # the first step, mostly compiled
    made.done(101)
    assert made.measure(101) == {} and made.left is None
    made.waited(2.0)
    made.aside(2.0)
    clock[0] = 15.0
    made.done(201)
    numbers = made.measure(201)
    assert numbers == {"images_per_second": pytest.approx(400), "data_wait_share": 0.25}
    assert made.known
    assert made.line(201, {"loss": 0.5, "lr": 1e-3} | numbers) == (
        "step 201/400 (50%)  epoch 4.0  loss 0.5000  lr 1.00e-03  400 images/s"
        "  data wait 25%  eta 0:00:16"
    )
    assert "images/s" not in made.line(101, {"loss": 0.5, "lr": 1e-3})


@pytest.mark.parametrize("late", [False, True])
def test_steps_of_one_length_have_one_speed_whenever_they_are_looked_at(clock, late):
    """A step is 0.1 s; every tenth ends with a pause, before which two steps are read at once."""
    made, speeds, at = Pace(steps=100, steps_per_epoch=10, batch_size=8), [], 0.0
    for step in range(1, 101):
        at += 0.1
        clock[0] = at + (0.02 if late and step % 3 == 0 else 0)
        made.done(step)
        if step % 10 == 9:
            continue  # read with the next
        for seen in (step - 1, step) if step % 10 == 0 else (step,):
            speeds.append(made.measure(seen).get("images_per_second"))
        if step % 10 == 0:
            made.aside(7.0)
            at += 7.0
    assert speeds.pop(0) is None
    later = speeds[12:]  # once there is a second to look back on
    assert min(later) == pytest.approx(80, rel=0.03) == max(later)


def test_a_step_that_nobody_saw_end_was_done_by_the_next(clock):
    made = Pace(steps=9, steps_per_epoch=3, batch_size=4)
    for step, now in ((1, 1.0), (3, 5.0), (2, 6.0)):
        clock[0] = now
        made.done(step)
    assert made.measure(2)["images_per_second"] == pytest.approx(1)
    assert made.measure(3)["images_per_second"] == pytest.approx(2)

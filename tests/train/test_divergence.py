"""Steps whose numbers are not finite: they change nothing, are counted, and end a run at last."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_loop import Cut, assert_same_parameters, final_model
from test_step import ONE

from mae_jax.data import loader
from mae_jax.errors import Diverged
from mae_jax.parallel import Layout
from mae_jax.train import loop, metrics, state, step
from mae_jax.train.checkpoints import checkpoint
from mae_jax.train.objectives import Reconstruct
from mae_jax.train.task import prepare


@pytest.fixture
def config(digits_config):
    """Of pixels that may be NaN."""
    digits_config.data.pixels = "float32"
    digits_config.data.mean, digits_config.data.std = (0.3,), (0.4,)
    return digits_config


def broken(batch):
    """A batch with NaN in one pixel."""
    image = np.array(batch["image"])
    image[3, 2, 5] = np.nan
    return batch | {"image": image}


def left_out(current):
    """A state after a step that made no update."""

    def later(part):
        if isinstance(part, optax.ScaleByScheduleState):
            return part._replace(count=part.count + 1)
        return part

    kept = jax.tree.map(
        later, current.opt_state, is_leaf=lambda x: isinstance(x, optax.ScaleByScheduleState)
    )
    return current._replace(step=current.step + 1, opt_state=kept)


def steps(config, devices, *, bad=(), without=(), count=4):
    """The state after so many steps, of which some have a broken batch, or are left out."""
    task = prepare(config, devices)
    layout = Layout.of(task.split, jax.devices()[:devices])
    current = state.create(task.objective, task.recipe, config.seed, layout)
    batches = loader.TrainBatches(
        task.train, loader.Picture.from_config(config),
        batch_size=config.data.batch_size, seed=config.seed, steps=count,
    )  # fmt: skip
    for index in range(count):
        if index in without:
            current = left_out(current)
            continue
        batch = broken(batches[index]) if index in bad else batches[index]
        current, numbers = step.train_step(
            current, step.put(batch, layout, config.data.batch_size), np.uint32(config.seed),
            objective=task.objective, recipe=task.recipe, layout=layout,
            accumulate=config.train.accumulate,
        )  # fmt: skip
        assert np.isfinite(float(numbers["grad_norm"])) == (index not in bad)
    return jax.tree.map(np.asarray, current)


@pytest.mark.parametrize(
    ("devices", "accumulate", "dtype"), [(1, 1, "float32"), (8, 2, "bfloat16")]
)
def test_a_broken_batch_is_as_if_it_were_left_out(config, devices, accumulate, dtype):
    config.train.accumulate, config.train.ema, config.train.warmup_epochs = accumulate, 0.9, 0.4
    config.model.dtype, config.parallel.fsdp = dtype, devices // 4 or 1
    skipped, expected = steps(config, devices, bad=[2]), steps(config, devices, without=[2])
    jax.tree.map(np.testing.assert_array_equal, skipped, expected)
    assert skipped.step == 4 and optax.tree.get(skipped.opt_state, "mu") is not None
    adam, *_, schedule = skipped.opt_state
    assert (adam.count, schedule.count) == (3, 4)


def test_statistics_of_a_broken_batch_are_not_kept(config):
    config.train.objective, config.model.pool, config.train.optimizer = "probe", "token", "lars"
    skipped, expected = steps(config, 8, bad=[1]), steps(config, 8, without=[1])
    jax.tree.map(np.testing.assert_array_equal, skipped, expected)
    assert not np.array_equal(skipped.tables["head_norm"]["mean"], np.zeros(16))


@dataclasses.dataclass(frozen=True)
class _Steep(Reconstruct):
    """Its loss is finite, and its gradient is not."""

    def loss(self, model, batch):
        return super().loss(model, batch) + jnp.sqrt(0 * model.encoder.cls_token[...].sum())


def test_a_gradient_that_is_not_finite_makes_no_update_either(digits_config):
    task = prepare(digits_config, 1)
    plain = {f.name: getattr(task.objective, f.name) for f in dataclasses.fields(Reconstruct)}
    fresh = state.create(task.objective, task.recipe, 0, ONE)
    expected = jax.tree.map(np.asarray, left_out(fresh))
    batch = {"image": np.zeros((8, 8, 8, 1), np.uint8), "label": np.zeros(8, np.int32)}
    after, numbers = step.train_step(
        fresh, batch, np.uint32(0), objective=_Steep(**plain), recipe=task.recipe, layout=ONE
    )
    assert np.isfinite(float(numbers["loss"])) and not np.isfinite(float(numbers["grad_norm"]))
    jax.tree.map(np.testing.assert_array_equal, after, expected)


@pytest.fixture
def run(config, tmp_path, monkeypatch):
    """Runs the config in a folder with broken batches at some steps, or until one is killed."""
    iterate = loader.TrainBatches.iterate

    def run(name, bad, cut=None):
        def given(self, start, workers):
            with contextlib.closing(iterate(self, start, workers)) as batches:
                for number, batch in enumerate(batches, start + 1):
                    if number == cut:
                        raise Cut
                    yield broken(batch) if number in bad else batch

        with monkeypatch.context() as patch:
            patch.setattr(loader.TrainBatches, "iterate", given)
            loop.run(config, tmp_path / name)

    return run


def told(folder):
    """What a run recorded of its steps: loss, learning rate and steps without an update so far."""
    lines = [line for line in metrics.read(folder) if "loss" in line]
    return [(line["step"], line["loss"], line["lr"], line.get("skipped", 0)) for line in lines]


def test_a_run_goes_on_after_broken_batches_and_resumes_exactly(run, config, tmp_path, capsys):
    config.train.max_skipped = 2
    run("whole", bad=(3, 4))
    said = capsys.readouterr().err
    assert "step 3: loss nan, gradient norm nan; it made no update, as 1 in a row did not" in said
    assert [line[-1] for line in told(tmp_path / "whole")] == [0, 0, 1, 2, 2, 2, 2, 2]
    assert checkpoint.read_model(str(tmp_path / "whole"))["position"]["in_a_row"] == 0
    with pytest.raises(Cut):
        run("cut", bad=(3, 4), cut=5)  # saved at 3, between the two
    run("cut", bad=(3, 4))
    assert_same_parameters(tmp_path / "whole", tmp_path / "cut")
    assert told(tmp_path / "whole") == told(tmp_path / "cut")


def test_too_many_broken_batches_in_a_row_end_a_run(run, config, tmp_path):
    config.train.max_skipped, bad = 2, (1, 3, 4, 5)
    with pytest.raises(
        Diverged,
        match=r"^step 5: loss nan, .*, after 2 in a row .*base_lr.* Checkpoint 3 in .* is f",
    ):
        run("whole", bad)
    with pytest.raises(Cut):
        run("cut", bad, cut=5)
    # Saved in the middle of the row, which is none the shorter for it.
    position = checkpoint.read_model(str(tmp_path / "cut"))["position"]
    assert (position["step"], position["skipped"], position["in_a_row"]) == (3, 2, 1)
    with pytest.raises(Diverged, match=r"^step 5: "):
        run("cut", bad)
    found, leaves = final_model(tmp_path / "cut")
    assert found == 3 and all(np.isfinite(x).all() for x in leaves if isinstance(x, np.ndarray))


def test_a_learning_rate_far_too_high_ends_a_run(digits_config, tmp_path):
    digits_config.train.base_lr, digits_config.train.steps = 1e6, 40
    digits_config.train.warmup_epochs = 0.0
    with pytest.raises(Diverged, match=r"step \d+: .* a lower train\.base_lr") as raised:
        loop.run(digits_config, tmp_path)
    assert raised.value.exit_code == 5


def test_a_checkpoint_without_counts_is_resumed(config, run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Cut):
        save = checkpoint.save

        def saved(manager, current, position, resolved):
            del position["skipped"], position["in_a_row"], resolved["train"]["max_skipped"]
            save(manager, current, position, resolved)

        patch.setattr(checkpoint, "save", saved)
        run("old", bad=(), cut=5)
    run("old", bad=(7,))
    assert [line[-1] for line in told(tmp_path / "old")] == [0] * 6 + [1, 1]

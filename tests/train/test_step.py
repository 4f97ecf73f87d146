import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mae_jax.data import loader
from mae_jax.parallel import Layout, Split
from mae_jax.train import state, step
from mae_jax.train.objectives import Reconstruct
from mae_jax.train.task import prepare

ONE = Layout.of(Split(), jax.devices()[:1])


def run(config, devices, *, steps=3):
    """Losses, batches and masks of the first steps on so many devices."""
    task = prepare(config, devices)
    layout = Layout.of(task.split, jax.devices()[:devices])
    current = state.create(task.objective, task.recipe, config.seed, layout)
    batches = loader.TrainBatches(
        task.train, loader.Picture.from_config(config),
        batch_size=config.data.batch_size, seed=config.seed, steps=steps,
    )  # fmt: skip
    losses, noises, images = [], [], []
    draw = jax.jit(task.objective.draw)
    for index in range(steps):
        whole = layout.put_batch(batches[index], config.data.batch_size)
        batch = step.put(batches[index], layout, config.data.batch_size)
        assert batch["image"].shape == (config.data.batch_size, 8, 8)  # rows of 8 pixels, grey
        assert len(batch["image"].sharding.device_set) == devices
        key = jax.random.fold_in(jax.random.key(config.seed), index)
        noises.append(np.asarray(draw(whole, key).get("noise", 0)))
        images.append(np.asarray(batch["image"]))
        current, numbers = step.train_step(
            current, batch, np.uint32(config.seed), objective=task.objective,
            recipe=task.recipe, layout=layout, accumulate=config.train.accumulate,
        )  # fmt: skip
        losses.append(float(numbers["loss"]))
    return losses, noises, images, current


def test_masks_batches_and_losses_are_the_same_on_one_and_eight_devices(digits_config):
    one, eight = run(digits_config, 1), run(digits_config, 8)
    np.testing.assert_allclose(one[0], eight[0], atol=1e-5, rtol=0)
    np.testing.assert_array_equal(one[1], eight[1])
    np.testing.assert_array_equal(one[2], eight[2])


def test_samples_and_steps_get_masks_of_their_own(digits_config):
    noises = np.stack(run(digits_config, 8)[1])
    masks = (noises.argsort(-1).argsort(-1) >= 4).reshape(-1, 16)
    # Of 48 draws among 1820 possible masks a few may meet by chance.
    assert len(np.unique(masks, axis=0)) > 40
    assert len(np.unique(masks[:16], axis=0)) > 12


@dataclasses.dataclass(frozen=True)
class _TellsItsNoise(Reconstruct):
    """Its loss is a number that every number drawn has a part in."""

    def loss(self, model, batch):
        del model
        return self.told(batch["noise"])

    @staticmethod
    def told(noise):
        return (noise * jnp.cos(jnp.arange(noise.size)).reshape(noise.shape)).sum()


def test_what_a_step_draws_follows_from_seed_and_step(digits_config):
    task = prepare(digits_config, 1)
    plain = {f.name: getattr(task.objective, f.name) for f in dataclasses.fields(Reconstruct)}
    objective = _TellsItsNoise(**plain)
    batch = {
        "image": jnp.zeros((8, 8, 8, 1), jnp.uint8),
        "label": jnp.zeros(8, jnp.int32),
    }
    told, expected = [], []
    for seed in (0, 3):
        current = state.create(objective, task.recipe, 0, ONE)
        for index in range(3):
            current, numbers = step.train_step(
                current, batch, np.uint32(seed), objective=objective, recipe=task.recipe, layout=ONE
            )
            key = jax.random.fold_in(jax.random.key(seed), index)
            told.append(float(numbers["loss"]))
            expected.append(float(objective.told(objective.draw(batch, key)["noise"])))
    np.testing.assert_allclose(told, expected, atol=1e-4)
    assert len(np.unique(np.round(told, 2))) == 6


def test_a_step_tells_its_rate_and_the_norm_of_its_gradient(digits_config):
    task = prepare(digits_config, 1)
    current = state.create(task.objective, task.recipe, 0, ONE)
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), np.uint8)
    batch, moment = {"image": jnp.asarray(images), "label": jnp.zeros(8, jnp.int32)}, 0.0
    for index in range(2):
        current, numbers = step.train_step(
            current, batch, np.uint32(0), objective=task.objective, recipe=task.recipe, layout=ONE
        )
        assert int(current.step) == index + 1
        assert float(numbers["lr"]) == pytest.approx(float(task.recipe.schedule()(index)))
        before, moment = moment, optax.tree.get(current.opt_state, "mu")
        # Of AdamW's first moment, 0.9 is from before, and a tenth is the gradient.
        past = jax.tree.map(lambda x: x * 0.0, moment) if index == 0 else before
        gradient = jax.tree.map(lambda m, b: (m - 0.9 * b) / 0.1, moment, past)
        moment = jax.tree.map(np.asarray, moment)  # the state is given up
        assert float(numbers["grad_norm"]) == pytest.approx(float(optax.tree.norm(gradient)), 1e-3)


def test_rates_are_numbers_of_one_program(digits_config):
    compiled = []

    def note(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(seconds)

    recipe = prepare(digits_config, 1).recipe
    other = dataclasses.replace(recipe, peak_lr=0.5, min_lr=0.25, weight_decay=0.3)
    batch = {"image": jnp.zeros((5, 8, 8, 1), jnp.uint8), "label": jnp.zeros(5, jnp.int32)}
    objective, rates = prepare(digits_config, 1).objective, []
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        for at, one in enumerate((recipe, other)):
            current = state.create(objective, one, 0, ONE)
            for _ in range(2):
                current, numbers = step.train_step(
                    current, batch, np.uint32(0), objective=objective, recipe=one, layout=ONE
                )
                rates.append(float(numbers["lr"]))
            if not at:
                assert compiled
                compiled.clear()
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert not compiled
    expected = [float(one.schedule()(index)) for one in (recipe, other) for index in range(2)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_accumulation_gives_the_gradient_of_the_whole_batch(digits_config):
    def gradient_and_loss():
        losses, *_, current = run(digits_config, 2, steps=1)
        return optax.tree.get(current.opt_state, "mu"), losses[0]

    whole, loss = gradient_and_loss()
    digits_config.train.accumulate = 4
    parts, same_loss = gradient_and_loss()
    assert loss == pytest.approx(same_loss, abs=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, parts)


def test_the_loss_falls(digits_config):
    losses = run(digits_config, 1, steps=25)[0]
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_fixed_positions_stay_and_everything_else_moves(digits_config):
    task = prepare(digits_config, 1)
    before = jax.tree.map(np.asarray, state.create(task.objective, task.recipe, 0, ONE))
    after = run(digits_config, 1)[3]
    jax.tree.map(np.testing.assert_array_equal, before.tables, after.tables)
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), before.params, after.params)
    assert not any(jax.tree.leaves(same))


def test_classify_starts_from_the_pretrained_encoder(digits_config):
    task = prepare(digits_config, 1)
    source = state.create(task.objective, task.recipe, 7, ONE)
    digits_config.train.objective = "classify"
    task = prepare(digits_config, 1)
    fresh = state.create(task.objective, task.recipe, 0, ONE)
    given = {"params": source.params, "tables": source.tables}
    started, new = state.with_weights(fresh, given, task.recipe)
    assert new == ["fc_norm", "head"]
    given, taken = source.params["encoder"], started.params["encoder"]
    jax.tree.map(np.testing.assert_array_equal, given["blocks"], taken["blocks"])
    np.testing.assert_array_equal(source.tables["encoder"]["pos_embed"], taken["pos_embed"])
    assert taken.keys() == {"blocks", "cls_token", "patch_embed", "pos_embed"}
    jax.tree.map(np.testing.assert_array_equal, started.params["head"], fresh.params["head"])


@pytest.mark.parametrize("objective", ["reconstruct", "classify"])
def test_standardised_pixels(digits_config, objective):
    digits_config.train.objective = objective
    digits_config.data.mean, digits_config.data.std = (0.25,), (0.5,)
    task = prepare(digits_config, 1)
    pixels = np.array([0, 51, 255], np.uint8).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(
        task.objective.pixels.standardise(pixels).ravel(), [-0.5, -0.1, 1.5], atol=1e-6
    )


def test_finite_states_are_told_from_others(digits_config):
    task = prepare(digits_config, 1)
    fresh = state.create(task.objective, task.recipe, 0, ONE)
    assert state.is_finite(fresh)
    broken = fresh.params | {"encoder": jax.tree.map(lambda x: x * np.nan, fresh.params["encoder"])}
    assert not state.is_finite(fresh._replace(params=broken))

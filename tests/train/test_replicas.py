"""Copies of a state on several devices: equal after training, and told apart where one is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mae_jax.errors import Corrupted
from mae_jax.parallel import Layout, Split
from mae_jax.train import loop, replicas, state, step
from mae_jax.train.checkpoints import checkpoint
from mae_jax.train.task import prepare

DEVICES = 8


class Saved:
    """Stands for a manager of checkpoints."""

    @staticmethod
    def latest_step():
        return 3


def with_other_bits(leaf, place, *flips):
    """The same array, but for bits flipped in the copy of one device: (number, bit) each."""
    parts = [np.array(shard.data) for shard in leaf.addressable_shards]
    numbers = parts[place].reshape(-1).view(np.uint32)
    for number, bit in flips:
        numbers[number] ^= np.uint32(1 << bit)
    places = [shard.device for shard in leaf.addressable_shards]
    placed = [jax.device_put(part, device) for part, device in zip(parts, places, strict=True)]
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, placed)


def put_into(tree, old, new):
    return jax.tree.map(lambda leaf: new if leaf is old else leaf, tree)


def kernel_of(params):
    return params["encoder"]["blocks"][0]["mlp"]["fc1"]["kernel"]


@pytest.fixture
def trained(digits_config):
    """A state after two steps, and what compares its copies, by the split over devices."""

    def trained(split):
        config = digits_config
        config.model.depth, config.train.ema, config.train.clip_norm = 1, 0.9, 1.0
        task, layout = prepare(config, DEVICES), Layout.of(split)
        current = state.create(task.objective, task.recipe, 0, layout)
        images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)
        batch = {"image": images, "label": np.zeros(16, np.int32)}
        for _ in range(2):
            current, _ = step.train_step(
                current, step.put(batch, layout, 16), np.uint32(0), objective=task.objective,
                recipe=task.recipe, layout=layout,
            )  # fmt: skip
        return current, replicas.Replicas(5, layout, current, Saved, pytest.fail)

    return trained


def test_copies_are_equal_after_training_and_one_that_is_not_is_named(trained):
    current, compared = trained(Split(data=8))
    compared.check(5, current)
    kernel = kernel_of(current.params)
    # Twice the same bit, which a sum of all bits would not see.
    other = put_into(current, kernel, with_other_bits(kernel, 6, (3, 31), (8, 31)))
    compared.check(4, other)  # neither due nor saved
    for arguments in ((5, other), (4, other, True)):
        with pytest.raises(
            Corrupted,
            match=r"^step [45]: .*: params/encoder/blocks/0/mlp/fc1/kernel is another on device 6 "
            r"\(process 0 on \S+\) than on devices 0, 1, 2, 3, 4, 5, 7, .* checkpoint 3 is older",
        ) as raised:
            compared.check(*arguments)
    assert raised.value.exit_code == 44
    count = jax.tree.leaves(current.opt_state)[0]
    assert count.shape == ()
    both = put_into(other, count, with_other_bits(count, 6, (0, 0)))
    with pytest.raises(Corrupted, match=r"kernel \(and 1 more arrays\) is another on device 6 "):
        compared.check(5, both)


def test_parts_are_compared_with_the_same_part(trained):
    current, compared = trained(Split(data=4, fsdp=2))
    compared.check(5, current)
    moment = kernel_of(current.opt_state[1].mu)
    assert moment.sharding.shard_shape(moment.shape) != moment.shape
    with pytest.raises(Corrupted, match=r"opt_state/1/mu/.*device 4 .* than on devices 0, 2, 6, "):
        compared.check(5, put_into(current, moment, with_other_bits(moment, 4, (0, 0))))


@pytest.mark.slow
def test_of_two_copies_none_is_blamed(trained):
    current, compared = trained(Split(data=2, fsdp=2, tensor=2))
    compared.check(5, current)
    average = kernel_of(current.ema)
    with pytest.raises(Corrupted, match=r"ema/.* differs between device 1 .* and device 5 .* none"):
        compared.check(5, put_into(current, average, with_other_bits(average, 5, (0, 0))))


def test_bits_are_compared_and_not_values():
    layout = Layout.of(Split(data=8))
    whole = jax.device_put(np.array([np.nan, 0.0, np.inf, -0.0], np.float32), layout.replicated)
    narrow = whole.astype(jnp.bfloat16)
    compared = replicas.Replicas(1, layout, [narrow, whole], Saved, pytest.fail)
    compared.check(1, [narrow, whole])
    with pytest.raises(Corrupted, match="1 is another on device 2 "):
        compared.check(1, [narrow, with_other_bits(whole, 2, (1, 31))])  # 0.0 becomes -0.0
    # Two numbers that changed places.
    swapped = np.array([np.nan, np.inf, 0.0, -0.0], np.float32)
    sums = [np.asarray(replicas.checksums([x], layout)) for x in (whole, jnp.asarray(swapped))]
    assert (sums[0] != sums[1]).all()


def test_where_every_device_has_its_own_there_is_nothing_to_compare():
    layout, told = Layout.of(Split(), jax.devices()[:1]), []
    alone = replicas.Replicas(1, layout, [jnp.zeros(3)], Saved, told.append)
    assert not alone.due(1) and "no device holds what another one holds too" in told[0]


@pytest.mark.parametrize(("every", "seen"), [(5, 5), (1000, 6)])
def test_a_run_with_a_broken_copy_ends_and_saves_nothing_of_it(
    digits_config, tmp_path, monkeypatch, every, seen
):
    """Saved is every three steps."""
    digits_config.model.depth, digits_config.train.check_replicas_every = 1, every
    digits_config.log.eval_every_epochs = digits_config.log.panel_every_epochs = 10.0
    train_step = loop.train_step

    def broken(current, *arguments, **options):
        following, numbers = train_step(current, *arguments, **options)
        if int(following.step) == 4:
            kernel = kernel_of(following.params)
            following = put_into(following, kernel, with_other_bits(kernel, 1, (0, 3)))
        return following, numbers

    monkeypatch.setattr(loop, "train_step", broken)
    with pytest.raises(Corrupted, match=rf"^step {seen}: .* device 1 .* checkpoint 3 is older"):
        loop.run(digits_config, tmp_path)
    assert checkpoint.read_model(str(tmp_path))["step"] == 3
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]

"""Every sharding trains the same, holds less, and reads what another wrote."""

from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from mae_jax import parallel
from mae_jax.data import loader
from mae_jax.errors import UsageError
from mae_jax.parallel import Layout, Split
from mae_jax.train import loop, state, step
from mae_jax.train.checkpoints import checkpoint
from mae_jax.train.task import prepare

STEPS = 5
SPLITS = {
    "data": Split(data=8),
    "zero": Split(data=8, zero=True),
    "fsdp": Split(fsdp=8),
    "tensor": Split(data=2, tensor=4),
    "mixed": Split(data=2, fsdp=2, tensor=2, zero=True),
}


@pytest.fixture
def config(digits_config):
    digits_config.model.heads = digits_config.model.decoder_heads = 4
    return digits_config


def train(config, split, steps, start):
    """Losses and the state after some steps, from given values or a folder of checkpoints."""
    layout = Layout.of(split, jax.devices()[: split.batch_shards * split.tensor])
    task = prepare(config, 1)
    template = state.abstract(task.objective, task.recipe, layout)
    if isinstance(start, Path):
        with checkpoint.open_manager(start, keep=1) as manager:
            current, position = checkpoint.restore(manager, template)
        first = position["step"]
    else:  # given values, which saves compiling the making of them
        first, current = 0, jax.device_put(start, layout.state(template))
    batches = loader.TrainBatches(
        task.train, loader.Picture.from_config(config),
        batch_size=config.data.batch_size, seed=config.seed, steps=steps,
    )  # fmt: skip
    losses = []
    for index in range(first, steps):
        assert_lies(current, template)
        current, numbers = step.train_step(
            current, layout.put_batch(batches[index], config.data.batch_size),
            np.uint32(config.seed), objective=task.objective, recipe=task.recipe, layout=layout,
        )  # fmt: skip
        losses.append(float(numbers["loss"]))
    assert_lies(current, template)
    return losses, current


def assert_lies(current, template):
    for x, wanted in zip(jax.tree.leaves(current), jax.tree.leaves(template), strict=True):
        assert x.sharding.is_equivalent_to(wanted.sharding, x.ndim)


def held(tree):
    """Bytes on the first device, as the arrays have it."""
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def alone(new_digits_config):
    config = new_digits_config()
    config.model.heads = config.model.decoder_heads = 4
    task = prepare(config, 1)
    layout = Layout.of(Split(), jax.devices()[:1])
    fresh = state.create(task.objective, task.recipe, config.seed, layout)
    fresh = jax.tree.map(np.asarray, fresh)
    return fresh, *train(config, Split(), STEPS, fresh)


@pytest.mark.parametrize("name", SPLITS)
def test_losses_are_those_of_one_device_and_bytes_shrink(config, alone, name):
    fresh, expected, whole = alone
    split = SPLITS[name]
    losses, current = train(config, split, STEPS, fresh)
    np.testing.assert_allclose(losses, expected, atol=1e-5, rtol=0)
    params = held(current.params) / held(whole.params)
    moments = held(current.opt_state) / held(whole.opt_state)
    # What the table leaves whole (biases, norms, tokens) is a tenth of so small a model.
    bounds = {
        "data": (1, 1), "zero": (1, 0.25), "fsdp": (0.25, 0.25), "tensor": (0.5, 0.5),
        "mixed": (0.4, 0.25),
    }[name]  # fmt: skip
    assert params <= bounds[0] and moments <= bounds[1]
    if bounds[0] == 1:
        assert params == 1
    shardings = Layout.of(split).state(current)
    assert parallel.bytes_per_device(current, shardings) == held(current)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("zero", Split(fsdp=4)),
        ("fsdp", Split(data=2)),
        ("mixed", Split()),
        ("tensor", SPLITS["zero"]),
    ],
)
def test_a_checkpoint_of_one_sharding_goes_on_under_another(config, alone, written, read, tmp_path):
    fresh, expected, _ = alone
    _, current = train(config, SPLITS[written], 3, fresh)
    with checkpoint.open_manager(tmp_path, keep=1) as manager:
        checkpoint.save(manager, current, {"step": 3}, {})
    losses, _ = train(config, read, STEPS, start=tmp_path)
    np.testing.assert_allclose(losses, expected[3:], atol=1e-5, rtol=0)


def test_a_state_is_made_in_parts_and_its_values_are_the_same(config, alone):
    task = prepare(config, 8)
    layout = Layout.of(SPLITS["fsdp"])
    make = state._initialiser(task.objective, task.recipe, layout)
    memory = make.lower(jax.random.key(0)).compile().memory_analysis()
    whole = sum(state.size(task.objective, task.recipe))
    assert memory.output_size_in_bytes < 0.3 * whole
    made = state.create(task.objective, task.recipe, config.seed, layout)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), made, alone[0])


def test_rules_split_blocks_by_heads_and_hidden_units(config):
    task = prepare(config, 1)
    shapes = state.shapes(task.objective, task.recipe)
    layout = Layout.of(Split(data=2, fsdp=2, tensor=2, zero=True))
    shardings = layout.state(shapes)
    block = shardings.params["encoder"]["blocks"][0]
    assert block["attn"]["qkv"]["kernel"].spec == P(None, None, ("tensor", "fsdp"))
    assert block["attn"]["proj"]["kernel"].spec == P(("tensor", "fsdp"))
    assert block["mlp"]["fc1"]["bias"].spec == P("tensor")
    assert block["norm1"]["scale"].spec == P()
    moments = shardings.opt_state[0].mu["encoder"]["blocks"][0]
    assert moments["mlp"]["fc2"]["kernel"].spec == P("tensor", ("data", "fsdp"))
    # The patch's 2 x 2 x 1 pixels do not divide by anything here, nor do they have to.
    assert shardings.params["encoder"]["patch_embed"]["kernel"].spec == P(None, None, None, "fsdp")
    everything = [s.spec for s in jax.tree.leaves(Layout.of(Split(data=8)).state(shapes))]
    assert set(everything) == {P()}


def test_a_dimension_that_does_not_divide_is_whole(config):
    config.model.width = config.model.decoder_width = 12
    task = prepare(config, 1)
    shapes = state.shapes(task.objective, task.recipe)
    shardings = Layout.of(Split(fsdp=8)).state(shapes)
    block = shardings.params["encoder"]["blocks"][0]
    assert block["attn"]["qkv"]["kernel"].spec == P()  # 12 columns on 8 devices
    assert block["mlp"]["fc2"]["kernel"].spec == P()
    zero = Layout.of(Split(data=2, fsdp=4, zero=True)).state(shapes)
    assert zero.opt_state[0].mu["encoder"]["blocks"][0]["attn"]["qkv"]["kernel"].spec == P(
        None, None, "fsdp"
    )


def test_the_table(config):
    task = prepare(config, 1)
    layout = Layout.of(Split(fsdp=8))
    template = state.abstract(task.objective, task.recipe, layout)
    text = parallel.table(template, layout.state(template))
    assert "2 x  params/encoder/blocks/*/attn/qkv/kernel" in text
    line = next(line for line in text.splitlines() if "params/decoder/pred/kernel" in line)
    assert "(16, 4)" in line and "fsdp" in line
    assert text.splitlines()[-1].split()[:3] == ["all", "in", "all"]


def choose(config, devices, optimizer, widths=(1280, 512), slices=1, **section):
    for name, value in section.items():
        config.parallel[name] = value
    return parallel.choose(config.parallel, devices, widths, lambda: optimizer, slices)


def test_what_is_chosen_by_default(config):
    gb = 2**30
    assert choose(config, 1, 10 * gb) == Split()
    assert choose(config, 8, 0.2 * gb) == Split(data=8)
    assert choose(config, 8, gb) == Split(fsdp=8)
    assert choose(config, 16, gb) == Split(data=2, fsdp=8)  # not over all of several hosts
    assert choose(config, 128, gb) == Split(data=4, fsdp=32)
    assert choose(config, 2048, gb) == Split(data=64, fsdp=32)
    # More parts only where they are whole rows of registers.
    assert choose(config, 128, gb, widths=(1024, 512)) == Split(data=2, fsdp=64)
    assert choose(config, 64, gb, widths=(1024, 512)) == Split(data=2, fsdp=32)
    assert choose(config, 2048, gb, widths=(1024, 512)) == Split(data=32, fsdp=64)
    assert choose(config, 24, gb) == Split(data=2, fsdp=12)
    assert choose(config, 8, gb, tensor=2) == Split(fsdp=4, tensor=2)
    assert choose(config, 8, gb, fsdp=2) == Split(data=2, fsdp=2, tensor=2)
    assert choose(config, 8, gb, zero=True) == Split(data=2, fsdp=2, tensor=2, zero=True)
    config.parallel.fsdp = None
    assert choose(config, 8, gb) == Split(data=4, tensor=2, zero=True)


def test_a_state_is_split_within_a_slice(config):
    gb = 2**30
    assert choose(config, 512, gb, (1024, 512), slices=2) == Split(data=8, fsdp=64)
    assert choose(config, 48, gb, (1024, 512), slices=3) == Split(data=6, fsdp=8)
    with pytest.raises(UsageError, match="32, which does not divide the 16 devices of each of 2"):
        choose(config, 32, gb, slices=2, fsdp=32)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"fsdp": 3}, r"parallel.fsdp 3 times parallel.tensor 1 is 3, which does not divide the 8"),
        ({"tensor": 16}, r"parallel.tensor 16 is 16, .* must be one of 1, 2, 4, 8$"),
        ({"tensor": 8}, r"parallel.tensor 8 does not divide model.heads 4; .* one of 1, 2, 4$"),
        ({"fsdp": 0}, r"parallel.fsdp is 0; it must be a whole number at least 1"),
    ],
)
def test_splits_that_cannot_be(config, section, message):
    for name, value in section.items():
        config.parallel[name] = value
    with pytest.raises(UsageError, match=message):
        prepare(config, 8)


def test_a_run_goes_on_under_another_sharding(config, tmp_path, capsys):
    config.log.sharding, config.parallel.zero = True, True
    config.train.steps, config.data.eval_split = 3, None
    loop.run(config, tmp_path)
    printed = capsys.readouterr().err
    assert "mesh: data 8 x fsdp 1 x tensor 1, optimizer split over data too" in printed
    assert "opt_state in all" in printed
    config.parallel.fsdp, config.parallel.tensor = 4, 2
    assert loop.run(config, tmp_path)["steps"] == 3

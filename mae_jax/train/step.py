"""One update, for any objective."""

import collections
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from mae_jax.models.fast import ways
from mae_jax.parallel import Layout
from mae_jax.train import compilation, working
from mae_jax.train import teacher as teacher_lib
from mae_jax.train.objectives import Batch, Objective
from mae_jax.train.optimizer import Recipe, joined
from mae_jax.train.state import TrainState


def put(batch: dict[str, np.ndarray], layout: Layout, batch_size: int) -> Batch:
    """Starts the transfer of this process's share of a batch to the devices.

    Images travel as rows of pixels, (B, H, W * C): that is how patches are cut from them cheaply.
    An axis of three channels TPUs either fill up to 128 or move outside of a row.

    Args:
      batch: of `loader.TrainBatches` or `loader.plain_batches`.
      layout: of the state.
      batch_size: over all processes.
    """
    images = batch["image"]
    return layout.put_batch(batch | {"image": images.reshape(*rows_of(images.shape))}, batch_size)


def rows_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of images (B, *spatial, C) as they travel."""
    return (*shape[:-2], shape[-2] * shape[-1])


def _as_images(batch, objective):
    d = objective.dimensions
    return batch | {"image": batch["image"].reshape(-1, *d.image_size, d.channels)}


def train_step(
    state: TrainState,
    batch: Batch,
    seed: jax.Array,
    *,
    objective: Objective,
    recipe: Recipe,
    layout: Layout,
    accumulate: int = 1,
    teacher: Any = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Gradient of the objective on a batch, and the update it makes.

    Where the loss or the norm of the gradient is not finite there is no update: parameters, tables,
    moments and moving average stay as they were, bit for bit. The step counts all the same, so that
    data, random numbers and learning rate of the steps to come are as planned.

    Args:
      state: is given up.
      batch: "image" (B, *spatial, C) uint8, as `put` gives them or as they are, and "label" (B,)
        int32.
      seed: scalar; random numbers are a function of it and of the step.
      layout: where the state lies, and stays.
      accumulate: parts the batch is worked through in, with the result of the whole.
      teacher: arrays of the objective's teacher, if it has one, as `teacher.place` gives them.

    Returns:
      The next state, and float32 scalars `loss`, `grad_norm` and `lr`.
    """
    fixed = _fixed(objective, recipe, layout, accumulate)
    return _program(objective, layout)(state, batch, seed, recipe.rates(), teacher, **fixed)


def lowered(
    state: TrainState,
    batch: Batch,
    seed: jax.Array,
    *,
    objective: Objective,
    recipe: Recipe,
    layout: Layout,
    accumulate: int = 1,
) -> jax.stages.Lowered:
    """What `train_step` compiles and runs for such arguments, for devices that may be elsewhere.

    Compiled, it takes a state, a batch, a seed and `recipe.rates()`.

    Args:
      As of `train_step`; shapes, dtypes and shardings will do.
    """
    fixed = _fixed(objective, recipe, layout, accumulate)
    return _program(objective, layout).lower(state, batch, seed, recipe.rates(), **fixed)


def _fixed(objective, recipe, layout, accumulate):
    recipe = recipe.without_rates()
    return dict(objective=objective, recipe=recipe, layout=layout, accumulate=accumulate)


def _program(objective, layout):
    fixed = ("objective", "recipe", "accumulate", "layout")
    return _compiled(_update, fixed, ("state",), layout.platform, objective.dimensions.width)


@functools.cache
def _compiled(function, fixed, given_up, platform, width):
    return jax.jit(
        function,
        static_argnames=fixed,
        donate_argnames=given_up,
        compiler_options=compilation.options(platform, width),
    )


def _model(objective, layout):
    """The objective's, with shapes in the place of arrays, as these devices compute it best."""
    devices, shards = layout.mesh.size, layout.batch_shards
    return objective.abstract(ways.choose(objective.attention, layout.platform, devices, shards))


def _update(state, batch, seed, rates, teacher=None, *, objective, recipe, layout, accumulate):
    recipe = recipe.with_rates(rates)
    model = _model(objective, layout)
    graphdef, dtypes = nnx.graphdef(model), working.kernel_dtypes(model)
    # Drawn at the global batch shape, before anything is split: the same on any mesh.
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    batch = objective.draw(_as_images(batch, objective), key)

    taught = _taught(objective, teacher, layout)
    trained, frozen = recipe.split(state.params)
    used, fixed = (working.gathered(tree, dtypes, layout) for tree in (trained, frozen))

    def loss_and_gradient(part, tables):
        part = taught(part)

        def loss(used):
            model = nnx.merge(graphdef, joined(used, fixed), tables)
            value = objective.loss(model, part)
            # As the model leaves them: a BatchNorm's statistics move on.
            return value, nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))

        (value, tables), gradient = jax.value_and_grad(loss, has_aux=True)(used)
        return (value, gradient), tables

    tables = state.tables
    if accumulate > 1 and objective.looks_across:
        # Images go through the frozen encoder in parts; their features are few enough for one.
        def encode(part):
            return objective.encode(nnx.merge(graphdef, joined(used, fixed), tables), part)

        batch = _together(jax.lax.map(encode, _in_parts(batch, accumulate)))
        accumulate = 1
    if accumulate == 1:
        (loss, gradient), tables = loss_and_gradient(batch, tables)
    else:
        # In float32: sums of many parts outgrow bfloat16.
        zeros = (jnp.zeros(()), jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), used))

        def add(carry, part):
            total, tables = carry
            found, tables = loss_and_gradient(part, tables)
            return (jax.tree.map(jnp.add, total, found), tables), None

        (total, tables), _ = jax.lax.scan(add, (zeros, tables), _in_parts(batch, accumulate))
        loss, gradient = jax.tree.map(lambda x: x / accumulate, total)

    part_of = functools.partial(
        jax.lax.with_sharding_constraint, shardings=layout.optimizer(trained)
    )
    # Each device gets the sum of its part of the gradient only, if that is all it updates.
    gradient = working.scattered(gradient, trained, layout)
    with jax.named_scope("optimizer"):  # by which `plan` knows it
        before = part_of(trained)
        updates, opt_state = recipe.build().update(gradient, state.opt_state, before)
        trained = part_of(optax.apply_updates(before, updates))
        ema = state.ema
        if recipe.ema is not None:
            ema = optax.incremental_update(trained, ema, 1 - recipe.ema)
    measured = gradient
    if layout.platform == "cpu":
        # Apart, or the compiler stores the squares that the norm shares with the optimizer.
        measured = jax.lax.optimization_barrier(gradient)
    norm = _norm(measured, layout.optimizer(trained))
    metrics = {"loss": loss, "grad_norm": norm, "lr": recipe.schedule()(state.step)}
    # One answer for all devices, as both numbers are sums over all of them.
    made = jnp.isfinite(loss) & jnp.isfinite(norm)
    with jax.named_scope("optimizer"):
        trained, tables, ema = _if(made, (trained, tables, ema), (before, state.tables, state.ema))
        opt_state = _if(made, opt_state, state.opt_state)
    params = joined(trained, frozen)
    state = TrainState(state.step + 1, params, tables, opt_state, ema)
    # The new state is sharded exactly as the old one. Then it can be written into the old one's
    # memory (`donate_argnames`), and the next step finds the arrays that it was compiled for.
    # Without this, XLA chooses the shardings of what a program returns, step after step.
    return jax.lax.with_sharding_constraint(state, layout.state(state)), metrics


def _norm(tree, shardings):
    """The Euclidean norm of a tree, as of `optax.tree.norm`.

    Squares of arrays that are alike are added up first: a sum for each of hundreds of arrays takes
    a TPU a microsecond or more, however small its part of them is.
    """
    alike = collections.defaultdict(list)
    for x, sharding in zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True):
        alike[x.shape, x.dtype, sharding].append(jnp.square(x))
    return jnp.sqrt(sum(jnp.sum(sum(squares)) for squares in alike.values()))


def _taught(objective, teacher, layout):
    """What adds to a drawn batch, or to a part of one, what the teacher says of its images."""
    if objective.teacher is None:
        return lambda batch: batch
    encoder = teacher_lib.ready(objective.teacher, objective.attention, teacher, layout)
    return functools.partial(objective.taught, encoder)


def _if(made, new, old):
    """What an update leaves: the new tree if it is made, else the old one.

    The learning rate follows the step, and moves on with it.

    Each choice is part of the pass over memory that computes what is new. What it costs is that no
    parameter is updated before the norm of the whole gradient is known, when the gradient has left
    the processor's caches. A conditional around the optimizer waits as well, and is no cheaper by
    the TPU compiler's estimate. Numbers are in docs/tried.md.
    """

    def choose(new, old):
        if isinstance(new, optax.ScaleByScheduleState):
            return new
        return jax.lax.select(made, new, old)

    return jax.tree.map(
        choose, new, old, is_leaf=lambda x: isinstance(x, optax.ScaleByScheduleState)
    )


def _in_parts(batch, count):
    """Part j takes every count-th sample, so that each part is spread over all devices."""
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0), batch)


def _together(parts):
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:]), parts)


def apply(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    objective: Objective,
    method: str,
    layout: Layout,
    teacher: Any = None,
    accumulate: int = 1,
):
    """What a method of the objective makes of a model and a drawn batch, without training.

    Where the objective has a teacher, its arrays are those of `train_step`, and it works the batch
    through in `accumulate` parts.

    Every device, and so every process, gets all of it.
    """
    fixed = dict(objective=objective, method=method, layout=layout, accumulate=accumulate)
    return _pass(objective, layout)(state, batch, key, teacher, **fixed)


def shapes_of_pass(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    objective: Objective,
    method: str,
    layout: Layout,
    teacher: Any = None,
):
    """What `apply` gives, as shapes; nothing is computed, and shapes will do for the state."""
    fixed = dict(objective=objective, method=method, layout=layout, accumulate=1)
    return jax.eval_shape(functools.partial(_applied, **fixed), state, batch, key, teacher)


def lowered_pass(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    objective: Objective,
    method: str,
    layout: Layout,
) -> jax.stages.Lowered:
    """What `apply` compiles and runs, as `lowered` is of `train_step`."""
    fixed = dict(objective=objective, method=method, layout=layout, accumulate=1)
    return _pass(objective, layout).lower(state, batch, key, None, **fixed)


def _pass(objective, layout):
    fixed = ("objective", "method", "layout", "accumulate")
    return _compiled(_applied, fixed, (), layout.platform, objective.dimensions.width)


def _applied(state, batch, key, teacher, *, objective, method, layout, accumulate):
    model = _model(objective, layout)
    params = working.gathered(state.params, working.kernel_dtypes(model), layout)
    model = nnx.merge(nnx.graphdef(model), params, state.tables)
    batch = objective.draw(_as_images(batch, objective), key)
    taught = _taught(objective, teacher, layout)
    if accumulate > 1:
        batch = _together(jax.lax.map(taught, _in_parts(batch, accumulate)))
    else:
        batch = taught(batch)
    made = getattr(objective, method)(model, batch)
    return jax.lax.with_sharding_constraint(made, layout.replicated)

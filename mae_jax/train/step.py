"""One update, for any objective."""

import functools

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from mae_jax.parallel import Layout
from mae_jax.train.objectives import Batch, Objective
from mae_jax.train.optimizer import Recipe
from mae_jax.train.state import TrainState


@functools.partial(
    jax.jit,
    static_argnames=("objective", "recipe", "accumulate", "layout"),
    donate_argnames="state",
)
def train_step(
    state: TrainState,
    batch: Batch,
    seed: jax.Array,
    *,
    objective: Objective,
    recipe: Recipe,
    layout: Layout,
    accumulate: int = 1,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Gradient of the objective on a batch, and the update it makes.

    Args:
      state: is given up.
      batch: "image" (B, *spatial, C) uint8 and "label" (B,) int32.
      seed: scalar; random numbers are a function of it and of the step.
      layout: where the state lies, and stays.
      accumulate: parts the batch is worked through in, with the result of the whole.

    Returns:
      The next state, and float32 scalars `loss`, `grad_norm` and `lr`.
    """
    graphdef = objective.graphdef()
    # Drawn at the global batch shape, before anything is split: the same on any mesh.
    batch = objective.draw(batch, jax.random.fold_in(jax.random.key(seed), state.step))

    def loss_and_gradient(part):
        def loss(params):
            return objective.loss(nnx.merge(graphdef, params, state.tables), part)

        return jax.value_and_grad(loss)(state.params)

    if accumulate == 1:
        loss, gradient = loss_and_gradient(batch)
    else:
        # Part j takes every accumulate-th sample, so that each part is spread over all devices.
        parts = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(-1, accumulate, *x.shape[1:]), 1, 0), batch
        )
        zeros = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params))

        def add(total, part):
            return jax.tree.map(jnp.add, total, loss_and_gradient(part)), None

        total, _ = jax.lax.scan(add, zeros, parts)
        loss, gradient = jax.tree.map(lambda x: x / accumulate, total)

    # Each device gets the sum of its part of the gradient only, if that is all it updates.
    gradient = jax.lax.with_sharding_constraint(gradient, layout.optimizer(gradient))
    with jax.named_scope("optimizer"):  # by which `plan` knows it
        updates, opt_state = recipe.build().update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    metrics = {
        "loss": loss,
        "grad_norm": optax.tree.norm(gradient),
        "lr": recipe.schedule()(state.step),
    }
    state = TrainState(state.step + 1, params, state.tables, opt_state)
    # As the state came in: so it can be given up for it, and no compiler's choice builds up.
    return jax.lax.with_sharding_constraint(state, layout.state(state)), metrics


@functools.partial(jax.jit, static_argnames=("objective", "method", "layout"))
def apply(
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    *,
    objective: Objective,
    method: str,
    layout: Layout,
):
    """What a method of the objective makes of a model and a drawn batch, without training.

    Every device, and so every process, gets all of it.
    """
    model = nnx.merge(objective.graphdef(), state.params, state.tables)
    made = getattr(objective, method)(model, objective.draw(batch, key))
    return jax.lax.with_sharding_constraint(made, layout.replicated)

"""The state of a run: parameters, fixed tables, optimizer, step."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mae_jax.parallel import Layout
from mae_jax.train.objectives import Objective
from mae_jax.train.optimizer import Recipe


class TrainState(NamedTuple):
    """All that an update reads and writes.

    Attributes:
      step: scalar int32, how many updates were made.
      params: what is trained, a tree of dictionaries named as the model's attributes.
      tables: what is not, such as fixed positions.
      opt_state: the optimizer's.
    """

    step: jax.Array
    params: Any
    tables: Any
    opt_state: Any


def create(objective: Objective, recipe: Recipe, seed: int, layout: Layout) -> TrainState:
    """A fresh state, made on the devices it will live on, in the parts they will hold.

    Its values depend on the seed, and not on the layout.
    """
    return _initialiser(objective, recipe, layout)(jax.random.key(seed))


def shapes(objective: Objective, recipe: Recipe) -> TrainState:
    """Shapes and dtypes of a state; makes nothing."""
    return jax.eval_shape(_init(objective, recipe), jax.random.key(0))


def abstract(objective: Objective, recipe: Recipe, layout: Layout) -> TrainState:
    """Shapes, dtypes and shardings of a state, to restore into or to compile for.

    The devices of the layout need not be attached.
    """
    state = shapes(objective, recipe)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        state,
        layout.state(state),
    )


def size(objective: Objective, recipe: Recipe) -> tuple[int, int]:
    """Bytes of all parameters, and of the optimizer's state."""
    state = shapes(objective, recipe)
    params, optimizer = (
        sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
        for tree in (state.params, state.opt_state)
    )
    return params, optimizer


@functools.lru_cache
def _initialiser(objective, recipe, layout):
    return jax.jit(_init(objective, recipe), out_shardings=layout.state(shapes(objective, recipe)))


def _init(objective, recipe):
    def init(key):
        model = objective.create(nnx.Rngs(key))
        params, tables = (nnx.to_pure_dict(part) for part in nnx.state(model, nnx.Param, ...))
        return TrainState(jnp.zeros((), jnp.int32), params, tables, recipe.build().init(params))

    return init


@jax.jit
def is_finite(state: TrainState) -> jax.Array:
    """Whether every number of a state is finite, scalar bool."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)]).all()


def with_encoder(state: TrainState, source: dict[str, Any]) -> TrainState:
    """`state` with the encoder of a pre-trained model's parameters and tables.

    The encoder's last norm stays behind where the new model normalises after pooling instead, and
    fixed positions become trained ones where the new model trains them.

    Args:
      state: of the model to start.
      source: a tree with `params` and `tables` of the pre-trained model.

    Raises:
      ValueError: a parameter is missing or of another shape.
    """
    given = _merged(source["params"].get("encoder", {}), source["tables"].get("encoder", {}))

    def take(path, current):
        where, value = jax.tree_util.keystr(path, simple=True, separator="."), given
        for entry in path:
            value = value.get(entry.key) if isinstance(value, dict) else None
        if value is None:
            raise ValueError(f"the weights have no encoder.{where}")
        if value.shape != current.shape:
            raise ValueError(
                f"encoder.{where} is {value.shape} in the weights, {current.shape} in the model"
            )
        value = np.asarray(value, current.dtype)
        return jax.make_array_from_callback(
            value.shape, current.sharding, lambda index: value[index]
        )

    encoder = jax.tree_util.tree_map_with_path(take, state.params["encoder"])
    return state._replace(params=state.params | {"encoder": encoder})


def _merged(a: dict, b: dict) -> dict:
    both = {k: _merged(a[k], b[k]) if isinstance(a[k], dict) else a[k] for k in a.keys() & b}
    return a | b | both

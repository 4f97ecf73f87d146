"""The state of a run: parameters, fixed tables, optimizer, step."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mae_jax.models.keys import Keys
from mae_jax.parallel import Layout
from mae_jax.train.objectives import Objective
from mae_jax.train.optimizer import Recipe, joined


class TrainState(NamedTuple):
    """All that an update reads and writes.

    Attributes:
      step: scalar int32, how many batches were worked through, with an update or without.
      params: the parameters, a tree of dictionaries named as the model's attributes.
      tables: what no gradient trains, such as fixed positions and a BatchNorm's statistics.
      opt_state: the optimizer's.
      ema: moving average of the trained parameters; None where the recipe keeps none.
    """

    step: jax.Array
    params: Any
    tables: Any
    opt_state: Any
    ema: Any = None

    def averaged(self) -> "TrainState":
        """With the moving average as the parameters, where there is one."""
        if self.ema is None:
            return self
        return self._replace(params=joined(self.params, self.ema))


def create(objective: Objective, recipe: Recipe, seed: int, layout: Layout) -> TrainState:
    """A fresh state, made on the devices it will live on, in the parts they will hold.

    Its values depend on the seed, and not on the layout.
    """
    made = _initialiser(objective, recipe.without_rates(), layout)
    return made(jax.random.key(seed))


def shapes(objective: Objective, recipe: Recipe) -> TrainState:
    """Shapes and dtypes of a state; makes nothing."""
    return _shapes(objective, recipe.without_rates())


@functools.lru_cache(maxsize=32)
def _shapes(objective, recipe):
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


def parameters(objective: Objective, recipe: Recipe) -> dict[str, int]:
    """How many numbers are trained or frozen: in "all", and in the "encoder"."""
    params = shapes(objective, recipe).params
    trees = {"all": params, "encoder": params["encoder"]}
    return {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in trees.items()}


@functools.lru_cache
def _initialiser(objective, recipe, layout):
    return jax.jit(_init(objective, recipe), out_shardings=layout.state(shapes(objective, recipe)))


def _init(objective, recipe):
    def init(key):
        model = objective.create(Keys(key))
        params, tables = (nnx.to_pure_dict(part) for part in nnx.state(model, nnx.Param, ...))
        trained, _ = recipe.split(params)
        # Copied: a state that is given up holds every array once.
        ema = None if recipe.ema is None else jax.tree.map(jnp.copy, trained)
        opt_state = recipe.build().init(trained)
        return TrainState(jnp.zeros((), jnp.int32), params, tables, opt_state, ema)

    return init


def placed(current: jax.Array, value: np.ndarray) -> jax.Array:
    """A value in the place of an array of its shape: of its dtype, where it lies."""
    value = np.asarray(value, current.dtype)
    return jax.make_array_from_callback(value.shape, current.sharding, lambda index: value[index])


@jax.jit
def is_finite(state: TrainState) -> jax.Array:
    """Whether every number of a state is finite, scalar bool."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)]).all()


def with_weights(
    state: TrainState, source: dict[str, Any], recipe: Recipe
) -> tuple[TrainState, list[str]]:
    """`state` with a pre-trained model's parameters and tables, as far as both have them.

    Fixed positions become trained ones where the new model trains them. Where the new model
    normalises after pooling, the source's last norm has no place.

    Args:
      state: of the model to start.
      source: a tree with `params` and `tables` of the pre-trained model, or of parts of it.
      recipe: of the run; its moving average starts at the same parameters.

    Returns:
      The state, and the dotted names of what the source does not have, so that it is new; what is
      new as a whole has one name.

    Raises:
      ValueError: a parameter of the encoder is missing, or one is of another shape.
    """
    given, new = joined(source["params"], source["tables"]), []

    def take(path, current):
        where, value = jax.tree_util.keystr(path, simple=True, separator="."), given
        for entry in path:
            value = value.get(entry.key) if isinstance(value, dict) else None
        if value is None:
            if path[0].key == "encoder" and path[1].key not in ("norm", "mask_token"):
                raise ValueError(f"the weights have no {where}")
            new.append(where)
            return current
        if value.shape != current.shape:
            raise ValueError(
                f"{where} is {value.shape} in the weights, {current.shape} in the model"
            )
        return placed(current, value)

    params, tables = (
        jax.tree_util.tree_map_with_path(take, tree) for tree in (state.params, state.tables)
    )
    started = state._replace(params=params, tables=tables)
    if recipe.ema is not None:
        trained, _ = recipe.split(params)
        started = started._replace(ema=jax.tree.map(jnp.copy, trained))
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, _ in jax.tree_util.tree_leaves_with_path((params, tables))
    ]
    return started, _wholes(new, {name.split(".", 1)[1] for name in names})


def _wholes(some: list[str], names: set[str]) -> list[str]:
    """Dotted names, those in the place of which one above them can stand as that."""
    found = []
    for name in some:
        parts = name.split(".")
        above = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
        found.append(
            next(a for a in above if all(n in some for n in names if f"{n}.".startswith(f"{a}.")))
        )
    return sorted(set(found))

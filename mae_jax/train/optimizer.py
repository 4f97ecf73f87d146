"""AdamW or LARS with warm-up and half-cosine, as the recipe of every objective describes it."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mae_jax.errors import UsageError

# LARS: the norm of a parameter's update over its own, before the learning rate (You et al. 2017).
_TRUST = 0.001


class Rates(NamedTuple):
    """What of a recipe its program takes as numbers, () float32, so that all values share it.

    Attributes:
      peak_lr, min_lr, weight_decay: as of `Recipe`.
    """

    peak_lr: jax.typing.ArrayLike
    min_lr: jax.typing.ArrayLike
    weight_decay: jax.typing.ArrayLike


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything the optimizer needs to know; hashable, so that equal recipes compile once.

    Those that differ in `rates` alone compile once, too.

    Attributes:
      peak_lr: learning rate after warm-up, already scaled by batch / 256.
      min_lr: what the half-cosine ends at.
      warmup_steps, steps: length of the warm-up, and of the whole run.
      weight_decay: decoupled, for parameters of two and more dimensions.
      undecayed: last names of further parameters that are not decayed.
      beta1, beta2: Adam's decay rates.
      clip_norm: largest global norm of the gradient, or None.
      layer_decay: learning rate of a block over that of the next one above.
      depth: encoder blocks, for `layer_decay`.
      optimizer: "adamw", or "lars", whose momentum is `beta1`.
      trained_blocks: how many of the last blocks are trained, with the head; 0.5 is the MLP of the
        last one; None trains everything.
      ema: decay of the moving average of the parameters, or None.
      settle_steps: for how long the encoder learns at `settle_lr` of its rate, while what is new
        beside it settles.
      settle_lr: that share; 0: the encoder stands still.
    """

    peak_lr: float
    min_lr: float
    warmup_steps: int
    steps: int
    weight_decay: float
    undecayed: tuple[str, ...]
    beta1: float
    beta2: float
    clip_norm: float | None
    layer_decay: float
    depth: int
    optimizer: str = "adamw"
    trained_blocks: float | None = None
    ema: float | None = None
    settle_steps: int = 0
    settle_lr: float = 0.0

    @classmethod
    def from_config(
        cls, config, *, steps: int, steps_per_epoch: float, undecayed: tuple[str, ...], depth: int
    ) -> "Recipe":
        """The recipe of a config, for `steps` updates in all.

        Raises:
          UsageError: the warm-up would not be over when the run is.
        """
        train = config.train
        warmup, said = train.warmup_steps, f"train.warmup_steps {train.warmup_steps}"
        if warmup is None:
            warmup = round(train.warmup_epochs * steps_per_epoch)
            said = f"train.warmup_epochs {train.warmup_epochs:g}, {warmup} steps,"
        if warmup > steps:
            raise UsageError(
                f"{said} is longer than the whole run of {steps} steps, so that its learning rate "
                f"{train.base_lr:g} would never be reached; make the warm-up shorter or the run "
                "longer"
            )
        settle = train.settle_steps
        if settle is None:
            settle = round(train.settle_epochs * steps_per_epoch)
        if settle and settle >= steps:
            raise UsageError(
                f"the encoder would learn at train.settle_lr {train.settle_lr:g} of its rate for "
                f"{settle} steps, and the whole run has {steps}; make train.settle_epochs smaller "
                "or the run longer"
            )
        return cls(
            peak_lr=train.base_lr * config.data.batch_size / 256,
            min_lr=train.min_lr,
            warmup_steps=warmup,
            steps=steps,
            weight_decay=train.weight_decay,
            undecayed=undecayed,
            beta1=train.beta1,
            beta2=train.beta2,
            clip_norm=train.clip_norm,
            layer_decay=train.layer_decay,
            depth=depth,
            optimizer=train.optimizer,
            trained_blocks=0 if train.objective == "probe" else train.trained_blocks,
            ema=train.ema,
            settle_steps=settle,
            settle_lr=train.settle_lr if settle else 0.0,
        )

    def rates(self) -> Rates:
        return Rates(*(np.float32(getattr(self, name)) for name in Rates._fields))

    def without_rates(self) -> "Recipe":
        """What is left of it to compile: the same for all that differ in rates alone."""
        return self.with_rates(Rates(1.0, 1.0, 1.0))

    def with_rates(self, rates: Rates) -> "Recipe":
        """This one with others, which may be traced."""
        return dataclasses.replace(self, **rates._asdict())

    def schedule(self) -> optax.Schedule:
        """Step to learning rate: linear from zero, then half a cosine, per step."""
        warmup = optax.linear_schedule(0.0, self.peak_lr, self.warmup_steps)
        cosine = optax.cosine_decay_schedule(
            self.peak_lr,
            max(1, self.steps - self.warmup_steps),
            # A rate of 0 throughout has no alpha, and a least one of 0.
            alpha=self.min_lr / jnp.maximum(self.peak_lr, jnp.finfo(jnp.float32).tiny),
        )
        if not self.warmup_steps:
            return cosine
        return optax.join_schedules([warmup, cosine], [self.warmup_steps])

    def build(self) -> optax.GradientTransformation:
        """The transformation of the trained parameters; its state holds moments and the step."""
        decay = optax.add_decayed_weights(self.weight_decay, mask=self.decayed)
        if self.optimizer == "lars":
            # As in the paper's probe: biases are neither decayed nor scaled, and the learning rate
            # comes after the momentum.
            trust = optax.scale_by_trust_ratio(trust_coefficient=_TRUST)
            parts = [decay, optax.masked(trust, self.decayed), optax.trace(self.beta1)]
        else:
            parts = [optax.scale_by_adam(b1=self.beta1, b2=self.beta2), decay]
        parts += [
            optax.stateless(lambda updates, _: self._by_layer(updates)),
            optax.scale_by_learning_rate(self.schedule()),
        ]
        if self.settle_steps:
            parts.append(optax.masked(optax.scale_by_schedule(self._settling), _in_encoder))
        if self.clip_norm is not None:
            parts.insert(0, optax.clip_by_global_norm(self.clip_norm))
        return optax.chain(*parts)

    def is_trained(self, path: tuple) -> bool:
        """Whether the parameter at a tree path is trained at all."""
        if self.trained_blocks is None:
            return True
        names = [entry.key for entry in path]
        if names[0] != "encoder":
            return True
        if names[1] == "norm":  # above all blocks
            return self.trained_blocks > 0
        if names[1] != "blocks":
            return False
        first = self.depth - math.ceil(self.trained_blocks)
        whole = self.trained_blocks == int(self.trained_blocks)
        return int(names[2]) >= first and (whole or names[3] == "mlp")

    def split(self, params: Any) -> tuple[Any, Any]:
        """The trained parameters and the frozen ones, each a tree without the others."""
        if self.trained_blocks is None:
            return params, {}
        frozen = _pruned(params, lambda path: not self.is_trained(path))
        return _pruned(params, self.is_trained), frozen

    def decayed(self, params):
        """True for the parameters that weight decay applies to."""
        undecayed = ("bias", *self.undecayed)  # the biases of queries, keys and values are a matrix
        return jax.tree_util.tree_map_with_path(
            lambda path, p: p.ndim > 1 and path[-1].key not in undecayed, params
        )

    def layer_scale(self, path: tuple) -> float:
        """Learning-rate factor of the parameter at a tree path: layer_decay^(layers above it)."""
        names = [entry.key for entry in path]
        if names[0] != "encoder" or names[1] in ("norm",):
            layer = self.depth + 1
        elif names[1] == "blocks":
            layer = int(names[2]) + 1
        else:
            layer = 0  # class token, positions and patch projection
        return self.layer_decay ** (self.depth + 1 - layer)

    def _settling(self, step):
        return jnp.where(step < self.settle_steps, self.settle_lr, 1.0)

    def _by_layer(self, updates):
        if self.layer_decay == 1:
            return updates
        return jax.tree_util.tree_map_with_path(lambda path, u: u * self.layer_scale(path), updates)


def _in_encoder(params):
    return jax.tree_util.tree_map_with_path(lambda path, _: path[0].key == "encoder", params)


def joined(a: Any, b: Any) -> Any:
    """Two trees as one, with b's leaf where both have one; undoes `Recipe.split`."""
    if not isinstance(a, dict):
        return b
    return a | {key: joined(a[key], value) if key in a else value for key, value in b.items()}


def _pruned(tree, wanted, path=()):
    """The leaves of a tree of dictionaries whose path is wanted; empty dictionaries go."""
    kept = {}
    for key, value in tree.items():
        here = (*path, jax.tree_util.DictKey(key))
        if isinstance(value, dict):
            below = _pruned(value, wanted, here)
            if below:
                kept[key] = below
        elif wanted(here):
            kept[key] = value
    return kept

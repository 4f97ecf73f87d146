"""The attentive probe, trained on the patch tokens of a frozen encoder that were computed once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from mae_jax.errors import UsageError
from mae_jax.models.attentive import AttentiveProbe


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the probe is trained: AdamW, warm-up and half-cosine.

    The authors train with LARS and batches of 4,096, as suits ImageNet. AdamW takes sets of a few
    thousand images, too. Its numbers were chosen on training images alone, of the digits (four
    fifths, measured on the fifth) and of Fashion-MNIST (2,000, measured on 3,000 others): learning
    rates from 3e-3 to 2e-2 and decays from 0.1 to 3 lie within 1.8 points there.

    Attributes:
      queries: as of `AttentiveProbe`; None is what `queries_for` says.
      epochs: over the training images, and
      updates: at least so many.
      batch_size: in images; all of them where they are fewer.
      peak_lr: after the warm-up, which takes a tenth of the updates.
      weight_decay: decoupled, of the matrices.
    """

    queries: int | None = None
    epochs: float = 30.0
    updates: int = 1000
    batch_size: int = 256
    peak_lr: float = 1e-2
    weight_decay: float = 1.0


def check_queries(queries: int | None, width: int) -> None:
    """Raises UsageError for a number of queries that does not divide an encoder's width."""
    if queries is not None and (queries < 1 or width % queries):
        raise UsageError(
            f"--queries={queries} must be a divisor of the encoder's width, {width}: each query "
            "reads an equal part of the values"
        )


def fit(
    tokens_BND: np.ndarray,
    labels_B: np.ndarray,
    *,
    classes: int,
    seed: int = 0,
    recipe: Recipe | None = None,
) -> AttentiveProbe:
    """Trains a probe; equal arguments give the same parameters on the same devices.

    Args:
      tokens_BND: patch tokens of the training images, float32 or float16; they stay in the host's
        memory.
      labels_B: whole numbers below `classes`.
      classes: how many.
      seed: of the first parameters and of the order of images.
      recipe: by default that of `Recipe`.
    """
    recipe = recipe or Recipe()
    count, width = len(tokens_BND), tokens_BND.shape[-1]
    batch = min(recipe.batch_size, count)
    steps = max(recipe.updates, round(recipe.epochs * count / batch))
    probe = AttentiveProbe(width, classes=classes, queries=recipe.queries, rngs=nnx.Rngs(seed))
    graphdef, params, rest = nnx.split(probe, nnx.Param, ...)
    optimizer = optax.adamw(
        optax.warmup_cosine_decay_schedule(0.0, recipe.peak_lr, max(1, steps // 10), steps),
        weight_decay=recipe.weight_decay,
        mask=jax.tree.map(lambda x: x.ndim > 1, params),
    )
    state = optimizer.init(params)

    @jax.jit
    def update(params, rest, state, x_BND, labels):
        def loss(params):
            model = nnx.merge(graphdef, params, rest, copy=True)  # whose statistics move
            logits = model(x_BND, train=True)
            moved = nnx.state(model, nnx.Not(nnx.Param))
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), moved

        gradient, moved = jax.grad(loss, has_aux=True)(params)
        updates, state_ = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), moved, state_

    order, rng = np.empty(0, int), np.random.default_rng(seed)
    for _ in range(steps):
        while len(order) < batch:
            order = np.concatenate([order, rng.permutation(count)])
        some, order = order[:batch], order[batch:]
        params, rest, state = update(params, rest, state, tokens_BND[some], labels_B[some])
    return nnx.merge(graphdef, params, rest)


def logits(probe: AttentiveProbe, tokens_BND: np.ndarray, batch_size: int = 1024) -> np.ndarray:
    """What a trained probe says of tokens, (B, classes) float32."""
    graphdef, state = nnx.split(probe)
    run = functools.partial(_logits, graphdef, state)
    starts = range(0, len(tokens_BND), batch_size)
    return np.concatenate([np.asarray(run(tokens_BND[at : at + batch_size])) for at in starts])


@functools.partial(jax.jit, static_argnums=0)
def _logits(graphdef, state, x_BND):
    return nnx.merge(graphdef, state)(jnp.asarray(x_BND))


def accuracy(probe: AttentiveProbe, tokens_BND: np.ndarray, labels_B: np.ndarray) -> float:
    """Share of images whose largest logit is that of their label."""
    return float((logits(probe, tokens_BND).argmax(-1) == labels_B).mean())

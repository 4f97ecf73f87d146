"""Weighted nearest neighbours on features (Wu et al. 2018, "instance discrimination")."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def accuracy(
    bank: np.ndarray,
    bank_labels: np.ndarray,
    queries: np.ndarray,
    query_labels: np.ndarray,
    *,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
    centred: bool = False,
    batch_size: int = 1024,
) -> float:
    """Share of the queries whose k nearest neighbours vote for their label.

    Features are compared by cosine; a neighbour's vote weighs exp(similarity / temperature).

    Args:
      bank, queries: (records, D) features.
      bank_labels, query_labels: (records,) whole numbers below `classes`.
      centred: whether the bank's mean is taken off all features first. The published formula does
        not: such numbers are another measure.
    """
    if centred:
        centre = bank.mean(0, keepdims=True)
        bank, queries = bank - centre, queries - centre
    bank, queries = _unit(bank), _unit(queries)
    right = 0
    for start in range(0, len(queries), batch_size):
        votes = _vote(
            bank,
            bank_labels,
            queries[start : start + batch_size],
            classes,
            min(k, len(bank)),
            temperature,
        )
        right += int((np.asarray(votes) == query_labels[start : start + batch_size]).sum())
    return right / len(queries)


@functools.partial(jax.jit, static_argnames=("classes", "k"))
def _vote(bank, labels, queries, classes, k, temperature):
    similarity, nearest = jax.lax.top_k(queries @ bank.T, k)
    weight = jnp.exp((similarity - 1) / temperature)
    votes = jax.nn.one_hot(labels[nearest], classes) * weight[..., None]
    return votes.sum(1).argmax(-1)


def _unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

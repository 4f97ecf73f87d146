"""Matrix products whose gradients are written so that XLA's CPU compiler finds its fast paths.

What JAX derives by itself multiplies transposed matrices: for the kernels of linear layers it
transposes the gradient, and XLA then recomputes whatever made the gradient in the transposed
order; for attention it contracts over rows, which has no fast kernel there. Compilers that choose
layouts themselves are free to. Results have the arguments' type.
"""

import jax
import jax.numpy as jnp

from mae_jax.models.fast.gradients import by_hand


@by_hand
def project(x: jax.Array, kernel_DF: jax.Array) -> jax.Array:
    """(…, D) times (D, F)."""
    return x @ kernel_DF


def _project_forward(x, kernel_DF):
    return project.formula(x, kernel_DF), (x, kernel_DF)


def _project_backward(saved, ct):
    x, kernel_DF = saved
    rows, ct_rows = x.reshape(-1, x.shape[-1]), ct.reshape(-1, ct.shape[-1])
    return ct @ kernel_DF.T, jax.lax.dot_general(rows, ct_rows, (((0,), (0,)), ((), ())))


project.defvjp(_project_forward, _project_backward)


@by_hand
def scores(q_BHQd: jax.Array, k_BHKd: jax.Array) -> jax.Array:
    """Every query times every key, (B, H, Q, K)."""
    return jnp.einsum("bhqd,bhkd->bhqk", q_BHQd, k_BHKd)


def _scores_forward(q_BHQd, k_BHKd):
    return scores.formula(q_BHQd, k_BHKd), (q_BHQd, k_BHKd)


def _scores_backward(saved, ct_BHQK):
    q_BHQd, k_BHKd = saved
    return ct_BHQK @ k_BHKd, _transposed(ct_BHQK) @ q_BHQd


scores.defvjp(_scores_forward, _scores_backward)


@by_hand
def mix(weights_BHQK: jax.Array, v_BHKd: jax.Array) -> jax.Array:
    """Values weighted for every query, (B, H, Q, d)."""
    return weights_BHQK @ v_BHKd


def _mix_forward(weights_BHQK, v_BHKd):
    return mix.formula(weights_BHQK, v_BHKd), (weights_BHQK, v_BHKd)


def _mix_backward(saved, ct_BHQd):
    weights_BHQK, v_BHKd = saved
    ct_weights = jnp.einsum("bhqd,bhkd->bhqk", ct_BHQd, v_BHKd)
    return ct_weights, _transposed(weights_BHQK) @ ct_BHQd


mix.defvjp(_mix_forward, _mix_backward)


def _transposed(x: jax.Array) -> jax.Array:
    """The last two axes swapped: on CPU in memory, so that XLA cannot fold it into a product."""
    turned = x.swapaxes(-1, -2)
    return jax.lax.platform_dependent(
        turned, cpu=jax.lax.optimization_barrier, default=lambda same: same
    )

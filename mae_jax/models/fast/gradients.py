"""Gradients written by hand, and a switch that leaves them to JAX."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import jax

# Part of what `jax.jit` tells programs apart by.
_by_formula = jax.make_user_context(False)


@contextlib.contextmanager
def forward_mode() -> Iterator[None]:
    """Inside, models can be differentiated in forward mode too: `jax.jvp`, `jax.jacfwd`.

    Their gradients are written by hand for speed, and what JAX can only run backwards it refuses to
    run forwards. Inside, everything is derived from the formula: the same numbers to rounding, but
    slower. Reverse mode and `jax.hessian`, which is forward over reverse, need no switch.
    """
    with _by_formula(True):
        yield


class by_hand:
    """A formula with a gradient by hand in reverse mode; used as `jax.custom_vjp` is.

    Args:
      formula: what is computed, of positional arguments.
      static: places of arguments that are no arrays; the backward pass gets them first.
    """

    def __init__(self, formula: Callable, static: tuple[int, ...] = ()):
        functools.update_wrapper(self, formula)
        self.formula, self._fast = formula, jax.custom_vjp(formula, nondiff_argnums=static)

    def defvjp(self, forward: Callable, backward: Callable) -> None:
        """Sets the two passes.

        Args:
          forward: the formula's result, and what `backward` needs to know.
          backward: from that, and the result's cotangent, the arguments' cotangents.
        """
        self._fast.defvjp(forward, backward)

    def __call__(self, *arguments):
        return (self.formula if _by_formula.value else self._fast)(*arguments)

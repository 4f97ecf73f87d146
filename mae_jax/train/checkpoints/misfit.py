"""How the arrays in a checkpoint differ from those of a state that is to be filled with them."""

from typing import Any

import jax


def misfit(saved: Any, wanted: Any) -> str | None:
    """The first array that the two trees do not share, in words; None if both have the same.

    Args:
      saved: of what Orbax says of each array.
      wanted: of arrays or their shapes.
    """
    there, here = _shapes(saved), _shapes(wanted)
    for name in here | there:
        if name not in there:
            return f"{name} is {here[name]} with these settings, and is not in it"
        if name not in here:
            return f"{name} is {there[name]} in it, and is not there with these settings"
        if there[name] != here[name]:
            return f"{name} is {there[name]} in it, and {here[name]} with these settings"
    return None


def _shapes(tree):
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(map(_name, path)): tuple(leaf.shape) for path, leaf in leaves}


def _name(key):
    # What was a tuple with names, or had numbers for keys, was saved as a dictionary of texts.
    return next(str(getattr(key, a)) for a in ("key", "name", "idx") if hasattr(key, a))

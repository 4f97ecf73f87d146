"""The copy of the parameters that a step computes with, and the way back of its gradient."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from mae_jax.parallel import Layout

Path = tuple[str | int, ...]


def kernel_dtypes(model: nnx.Module) -> dict[Path, jnp.dtype]:
    """What every module turns its kernel into before it multiplies, by the kernel's path."""
    found = {}
    for path, module in nnx.iter_modules(model):
        dtype = getattr(module, "dtype", None)
        if dtype is not None and hasattr(module, "kernel"):
            found[(*path, "kernel")] = jnp.dtype(dtype)
    return found


def gathered(params: Any, dtypes: dict[Path, jnp.dtype], layout: Layout) -> Any:
    """Parameters whole on every device that works on a part of the batch.

    Kernels are turned into what products take before they travel: half the bytes for bfloat16, and
    each device converts only the part it holds. They travel once a step, however often they are
    used.

    Args:
      params: a tree of dictionaries, as it lies on the mesh.
      dtypes: of kernels, by path; the rest stays as it is.
      layout: of the mesh.

    Returns:
      The same tree. A patch embedding's kernel is the matrix (P, D) that it is for products.
    """
    move = jax.lax.with_sharding_constraint

    def gather(path, x, part, whole):
        names = tuple(entry.key for entry in path)
        x = x.astype(dtypes.get(names, x.dtype))
        if x.ndim > 3:
            x, part = x.reshape(-1, x.shape[-1]), _of_matrix(part, x.ndim)
        # Each device shall convert and reshape its own part, and the result shall travel. The
        # arrays came in these parts already, but XLA is free to gather them first and to convert
        # afterwards, the whole of them on every device. Naming the parts again here, after the
        # conversion, leaves only what follows to the gather.
        x = move(x, part)
        # Queries, keys and values each by themselves, so that nothing has to cut them apart.
        kinds = jax.lax.split(x, (1,) * len(x)) if names[-2:] == ("qkv", "kernel") else [x]
        kinds = [move(kind, whole) for kind in kinds]
        return jnp.concatenate(kinds) if len(kinds) > 1 else kinds[0]

    return jax.tree_util.tree_map_with_path(
        gather, params, layout.state(params), layout.whole(params)
    )


def scattered(gradient: Any, params: Any, layout: Layout) -> Any:
    """The gradient of `gathered`, as the parameters are; a device holds what it updates."""

    def scatter(x, like, part):
        # A patch embedding's gradient is summed over devices as the matrix (P, D), which is split
        # along D only; of the four-dimensional kernel, parts would be small and many to transpose.
        matrix = part if x.ndim == like.ndim else _of_matrix(part, like.ndim)
        x = jax.lax.with_sharding_constraint(x, matrix).astype(like.dtype)
        return jax.lax.with_sharding_constraint(x.reshape(like.shape), part)

    return jax.tree.map(scatter, gradient, params, layout.optimizer(params))


def _of_matrix(sharding: NamedSharding, dimensions: int) -> NamedSharding:
    """Of an array whose first dimensions are made one, which are not split."""
    return sharding.update(spec=PartitionSpec(None, *sharding.spec[dimensions - 1 :]))

"""Images to patches and back, and where a patch stands. Any number of spatial axes."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def grid_shape(image_size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """Patches per axis of an image of `image_size` pixels."""
    return tuple(side // patch for side, patch in zip(image_size, patch_size, strict=True))


def count(grid: Sequence[int]) -> int:
    """N, the number of patches in a grid."""
    return math.prod(grid)


def patchify(images: jax.Array, patch_size: Sequence[int]) -> jax.Array:
    """Cuts images into patches.

    Args:
      images: (B, *spatial, C), for example (B, H, W, C).
      patch_size: pixels per spatial axis; each must divide its axis.

    Returns:
      (B, N, P): patches in raster order, the P values of one ordered (row, column, channel).
    """
    batch, *spatial, channels = images.shape
    axes = len(spatial)
    grid = grid_shape(spatial, patch_size)
    split = [n for pair in zip(grid, patch_size, strict=True) for n in pair]
    # A patch's row is one axis with its channels: as few numbers as that can be moved on a TPU.
    split[-1] *= channels
    x = images.reshape(batch, *split)
    across, within = range(1, 1 + 2 * axes, 2), range(2, 2 + 2 * axes, 2)
    x = x.transpose(0, *across, *within)
    return x.reshape(batch, count(grid), math.prod(patch_size) * channels)


def take(patches_BNP: jax.Array, index_BK: jax.Array) -> jax.Array:
    """(B, K, P): some patches, or other tokens, of every sample; (B, K) of a number for each."""
    last = tuple(range(2, patches_BNP.ndim))
    return jnp.take_along_axis(patches_BNP, jnp.expand_dims(index_BK, last), axis=1)


def unpatchify(patches_BNP: jax.Array, grid: Sequence[int], patch_size: Sequence[int]) -> jax.Array:
    """The inverse of `patchify`: (B, N, P) to (B, *spatial, C)."""
    batch, axes = patches_BNP.shape[0], len(grid)
    channels = patches_BNP.shape[-1] // math.prod(patch_size)
    x = patches_BNP.reshape(batch, *grid, *patch_size, channels)
    interleaved = [axis for i in range(axes) for axis in (1 + i, 1 + axes + i)]
    x = x.transpose(0, *interleaved, 1 + 2 * axes)
    spatial = [g * p for g, p in zip(grid, patch_size, strict=True)]
    return x.reshape(batch, *spatial, channels)


def moments(
    patches_BNP: jax.Array, known_BNP: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of each patch over all its values, both (B, N, 1).

    The variance is the unbiased one, with 1e-6 added before the root (paper, section 3,
    "reconstruction target").

    Args:
      known_BNP: which values count; all of them by default.
    """
    if known_BNP is None:
        values = patches_BNP.shape[-1]
        mean = patches_BNP.mean(-1, keepdims=True)
        variance = jnp.square(patches_BNP - mean).sum(-1, keepdims=True) / max(values - 1, 1)
        return mean, jnp.sqrt(variance + 1e-6)
    count = known_BNP.sum(-1, keepdims=True)
    mean = jnp.where(known_BNP, patches_BNP, 0).sum(-1, keepdims=True) / jnp.maximum(count, 1)
    squares = jnp.square(jnp.where(known_BNP, patches_BNP - mean, 0)).sum(-1, keepdims=True)
    return mean, jnp.sqrt(squares / jnp.maximum(count - 1, 1) + 1e-6)


def sincos_positions(grid: Sequence[int], width: int) -> np.ndarray:
    """Fixed sine-cosine position table, (N, width) float32, patches in raster order.

    Each axis gets an equal share of the channels, the last axis (x) first; a share is
    [sines, cosines] at frequencies 10000^(-k/K), not interleaved.

    Raises:
      ValueError: `width` is not a multiple of twice the number of axes.
    """
    share, rest = divmod(width, 2 * len(grid))
    if rest:
        raise ValueError(f"width {width} is not divisible by {2 * len(grid)}")
    frequencies = 1.0 / 10000 ** (np.arange(share, dtype=np.float64) / share)
    positions = np.meshgrid(*[np.arange(n, dtype=np.float64) for n in grid], indexing="ij")
    waves = []
    for position in reversed(positions):
        angles = position.reshape(-1, 1) * frequencies[None, :]
        waves += [np.sin(angles), np.cos(angles)]
    return np.concatenate(waves, axis=1).astype(np.float32)


def resize_positions(
    table: np.ndarray,
    grid: Sequence[int],
    new_grid: Sequence[int],
    class_tokens: int | None = None,
) -> np.ndarray:
    """A position table for another grid of patches, by bicubic interpolation along every axis.

    Without antialiasing, edges repeated, pixel centres aligned and a cubic of a = -0.75: what
    PyTorch's `interpolate(mode="bicubic")` does, and so the reference and transformers. timm asks
    PyTorch for antialiasing, which makes a table smaller otherwise and, as its cubic has an a of
    -0.5, larger too.

    Args:
      table: (1, T + N, D), N patches of `grid` in raster order; the rows of T class tokens stay.
      class_tokens: T; none or one, as the table has it, by default.

    Raises:
      ValueError: the table has not as many rows as the grid has patches.
    """
    tokens = table.shape[1] - count(grid)
    if tokens not in ((0, 1) if class_tokens is None else (class_tokens,)):
        raise ValueError(f"a table of {table.shape[1]} rows is not one of the grid {tuple(grid)}")
    if tuple(grid) == tuple(new_grid):
        return table
    x = table[0, tokens:].reshape(*grid, -1).astype(np.float64)
    for axis, (old, new) in enumerate(zip(grid, new_grid, strict=True)):
        x = np.moveaxis(np.tensordot(_bicubic(old, new), x, (1, axis)), 0, axis)
    rows = x.reshape(1, count(new_grid), -1).astype(table.dtype)
    return np.concatenate([table[:, :tokens], rows], axis=1)


def _bicubic(old: int, new: int) -> np.ndarray:
    """(new, old): the weights of the old points in every new one."""
    a, weights = -0.75, np.zeros((new, old))
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centres).astype(int)
    for offset in (-1, 0, 1, 2):
        t = np.abs(centres - first - offset)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = a * (((t - 5) * t + 8) * t - 4)
        np.add.at(
            weights,
            (np.arange(new), np.clip(first + offset, 0, old - 1)),
            np.where(t <= 1, near, far),
        )
    return weights

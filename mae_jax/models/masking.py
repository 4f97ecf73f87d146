"""Which patches are hidden.

Every way of sampling is a function that gives each patch a number; the `kept` patches with the
lowest numbers stay visible. So a mask of one's own is simply passed as that number: an array that
is 1 where a patch is to be hidden and 0 elsewhere keeps the visible ones in raster order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Masking(NamedTuple):
    """Which patches of each sample are visible.

    Attributes:
      keep_BK: indices of the visible patches, in the order of their noise.
      hide_BM: indices of the hidden patches, in the order of their noise.
      restore_BN: where patch n stands when all patches are sorted by noise.
      mask_BN: 1 where a patch is hidden, 0 where it is visible, float32.
    """

    keep_BK: jax.Array
    hide_BM: jax.Array
    restore_BN: jax.Array
    mask_BN: jax.Array


def kept_patches(patches: int, mask_ratio: float) -> int:
    """K, how many of `patches` stay visible: N(1 - r), truncated as in the reference."""
    return int(patches * (1 - mask_ratio))


def from_noise(noise_BN: jax.Array, kept: int) -> Masking:
    """Keeps the `kept` patches of lowest noise of every sample (paper, section 3)."""
    order_BN = jnp.argsort(noise_BN, axis=1, stable=True)
    restore_BN = jnp.argsort(order_BN, axis=1)
    mask_BN = (restore_BN >= kept).astype(jnp.float32)
    return Masking(order_BN[:, :kept], order_BN[:, kept:], restore_BN, mask_BN)


def random_noise(key: jax.Array, batch: int, grid: Sequence[int]) -> jax.Array:
    """Uniform random sampling without replacement, (B, N): the paper's default."""
    return jax.random.uniform(key, (batch, int(np.prod(grid))))


def grid_noise(key: jax.Array, batch: int, grid: Sequence[int]) -> jax.Array:
    """Regular sampling, (B, N), the same for every sample: at 75%, one of every 2 x 2 patches.

    Patches are ordered as in ordered dithering: by their coordinates' bits, reversed and
    interleaved, so that any share of them is spread as evenly as it can be.
    """
    del key  # nothing is random here; the signature is that of the other samplings
    coordinates = np.stack([c.ravel() for c in np.indices(tuple(grid))])
    rank = np.zeros(coordinates.shape[1])
    for bit in range(max(grid).bit_length()):
        for axis in coordinates:
            rank = 2 * rank + (axis >> bit & 1)
    return jnp.broadcast_to(jnp.asarray(rank, jnp.float32)[None], (batch, rank.size))


def block_noise(key: jax.Array, batch: int, grid: Sequence[int]) -> jax.Array:
    """Block-wise sampling, (B, N): hides random boxes one after the other (as BEiT does).

    Each box covers 5 to 30% of the image at an aspect ratio of at most 10:3. A patch's noise says
    how early a box covers it, so that any number of hidden patches can be had exactly; the last
    box is cut off in raster order.
    """
    axes, boxes = len(grid), 64
    share_key, shape_key, place_key = jax.random.split(key, 3)
    sides = jnp.asarray(grid, jnp.float32)[None, None]
    share = jax.random.uniform(share_key, (batch, boxes, 1), minval=0.05, maxval=0.3)
    stretch = jax.random.uniform(shape_key, (batch, boxes, axes), minval=-1, maxval=1)
    stretch = jnp.exp((stretch - stretch.mean(-1, keepdims=True)) * (np.log(10 / 3) / 2))
    extent = jnp.clip(jnp.round(sides * share ** (1 / axes) * stretch), 1, sides)
    place = jax.random.uniform(place_key, (batch, boxes, axes))
    start = jnp.floor(place * (sides - extent + 1))

    inside = jnp.ones((batch, boxes, 1), bool)
    for axis, side in enumerate(grid):
        at = jnp.arange(side, dtype=jnp.float32)[None, None]
        within = (at >= start[..., axis, None]) & (
            at < start[..., axis, None] + extent[..., axis, None]
        )
        inside = (inside[..., :, None] & within[..., None, :]).reshape(batch, boxes, -1)
    first = jnp.where(inside.any(1), inside.argmax(1), boxes).astype(jnp.float32)
    patches = int(np.prod(grid))
    raster = jnp.arange(patches, dtype=jnp.float32)[None] / patches
    return -(first + raster)


SAMPLINGS = {"random": random_noise, "block": block_noise, "grid": grid_noise}

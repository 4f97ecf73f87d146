"""Which patches are hidden.

Every way of sampling is a function that gives each patch a number; the `kept` patches with the
lowest numbers stay visible. So a mask of one's own is simply passed as that number: an array that
is 1 where a patch is to be hidden and 0 elsewhere keeps the visible ones in raster order.
"""

import math
from collections.abc import Callable, Sequence
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


def kept_patches(patches: int, mask_ratio: float, together: int = 1) -> int:
    """K, how many of `patches` stay visible: N(1 - r), truncated as in the reference.

    Args:
      together: patches of a unit, of which whole ones stay visible.
    """
    return int(patches // together * (1 - mask_ratio)) * together


def grid_of_units(grid: Sequence[int], unit: int) -> tuple[int, ...]:
    """Units of `unit` patches along every axis that a grid of patches is made of.

    Raises:
      ValueError: they do not divide it.
    """
    if unit < 1 or any(side % unit for side in grid):
        common = math.gcd(*grid)
        whole = [str(n) for n in range(1, common + 1) if common % n == 0]
        raise ValueError(
            f"mask_unit {unit} does not divide the {' x '.join(map(str, grid))} patches of an "
            f"image; it must be one of {', '.join(whole)}"
        )
    return tuple(side // unit for side in grid)


def from_noise(noise_BN: jax.Array, kept: int) -> Masking:
    """Keeps the `kept` patches of lowest noise of every sample (paper, section 3)."""
    order_BN = jnp.argsort(noise_BN, axis=1, stable=True)
    restore_BN = jnp.argsort(order_BN, axis=1)
    mask_BN = (restore_BN >= kept).astype(jnp.float32)
    return Masking(order_BN[:, :kept], order_BN[:, kept:], restore_BN, mask_BN)


def decoded_patches(hidden: int, decode_ratio: float) -> int:
    """How many of an image's hidden patches a share of them is, one at least."""
    return max(1, round(hidden * decode_ratio))


def shuffle_hidden(noise_BN: jax.Array, key: jax.Array, kept: int) -> jax.Array:
    """Noise of the same masks in which the hidden patches stand in a random order.

    So the first of them are a random share, however the masks were drawn.
    """
    rank_BN = jnp.argsort(jnp.argsort(noise_BN, axis=1, stable=True), axis=1) - kept
    random_BN = jax.random.uniform(key, noise_BN.shape)
    return jnp.where(rank_BN < 0, rank_BN.astype(jnp.float32), random_BN)


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


Sampling = Callable[[jax.Array, int, Sequence[int]], jax.Array]
SAMPLINGS: dict[str, Sampling] = {"random": random_noise, "block": block_noise, "grid": grid_noise}


def check_known(sampling: str) -> None:
    """Raises ValueError unless it is one of `SAMPLINGS`."""
    if sampling not in SAMPLINGS:
        known = ", ".join(SAMPLINGS)
        raise ValueError(f"sampling {sampling!r} is unknown; known are {known}")


def draw(
    sampling: str | Sampling, key: jax.Array, batch: int, grid: Sequence[int], unit: int = 1
) -> jax.Array:
    """Noise of every patch, (B, N).

    Args:
      sampling: one of `SAMPLINGS`, or a function like them.
      grid: of patches.
      unit: patches along every axis that are hidden together, or none of them (as in SimMIM and
        Pixio): the sampling then draws on the grid of such units.

    Raises:
      ValueError: units do not divide the grid, or there is no such sampling.
    """
    units = grid_of_units(grid, unit)
    if not callable(sampling):
        check_known(sampling)
        sampling = SAMPLINGS[sampling]
    noise_BU = sampling(key, batch, units)
    if unit == 1:
        return noise_BU
    # Their ranks: units of equal noise would be mixed, patch by patch, when patches are sorted.
    noise = jnp.argsort(jnp.argsort(noise_BU, axis=1, stable=True), axis=1)
    noise = noise.astype(jnp.float32).reshape(batch, *units)
    for axis in range(1, noise.ndim):
        noise = jnp.repeat(noise, unit, axis=axis)
    return noise.reshape(batch, -1)

"""Augmentation on the device: random erasing, mixup and cutmix, each drawn for every sample.

Everything random is drawn at the shape of the whole batch, so that it does not depend on how the
batch lies on devices; the pixels are changed where the sample is.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

# Random erasing (Zhong et al. 2017): area as a share of the image, height over width, tries.
_AREA = (0.02, 1 / 3)
_ASPECT = (0.3, 1 / 0.3)
_TRIES = 10


def erasing_boxes(
    key: jax.Array, batch: int, spatial: Sequence[int], probability: float
) -> jax.Array:
    """Boxes of random erasing, for images with two axes.

    Ten tries for an area of 2 % to a third of the image, with an aspect from 0.3 to 1/0.3, that is
    smaller than the image along both axes, as in timm.

    Args:
      spatial: height and width in pixels.
      probability: how often an image gets one.

    Returns:
      (B, 2, 2) int32, [start, stop) along each axis; both 0 where nothing is erased.
    """
    height, width = spatial
    keys = jax.random.split(key, 5)
    area = jax.random.uniform(keys[0], (batch, _TRIES), minval=_AREA[0], maxval=_AREA[1])
    low, high = (math.log(side) for side in _ASPECT)
    aspect = jnp.exp(jax.random.uniform(keys[1], (batch, _TRIES), minval=low, maxval=high))
    rows = jnp.round(jnp.sqrt(area * height * width * aspect)).astype(jnp.int32)
    columns = jnp.round(jnp.sqrt(area * height * width / aspect)).astype(jnp.int32)
    fits = (rows < height) & (columns < width)
    first = jnp.argmax(fits, axis=1)[:, None]
    size = jnp.stack(
        [jnp.take_along_axis(sides, first, axis=1)[:, 0] for sides in (rows, columns)], axis=1
    )
    erased = fits.any(1) & (jax.random.uniform(keys[2], (batch,)) < probability)
    starts = [
        _below(keys[3 + axis], batch, side - size[:, axis] + 1)
        for axis, side in enumerate((height, width))
    ]
    start = jnp.stack(starts, axis=1)
    boxes = jnp.stack([start, start + size], axis=-1)
    return jnp.where(erased[:, None, None], boxes, 0)


def erase(images: jax.Array, boxes: jax.Array, seeds: jax.Array) -> jax.Array:
    """Standardised images with normal noise, of its own for every value, in their boxes.

    Args:
      images: (B, *spatial, C).
      boxes: (B, axes, 2).
      seeds: (B,) uint32, of the noise.
    """
    noise = jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), images.shape[1:]))(seeds)
    return jnp.where(_inside(boxes, images.shape[1:-1])[..., None], noise, images)


def mixing_draw(
    key: jax.Array,
    batch: int,
    spatial: Sequence[int],
    *,
    mixup: float,
    cutmix: float,
    switch: float,
) -> dict[str, jax.Array]:
    """Which sample each is mixed with, and how: mixup (Zhang et al. 2017) or cutmix (Yun 2019).

    Args:
      spatial: of the images, in pixels.
      mixup, cutmix: the alpha of each one's Beta distribution; 0 leaves it out.
      switch: how often cutmix is taken where both are on.

    Returns:
      `partner` (B,) int32, never the sample itself in a batch of several, and each sample's once;
      `share` (B,) float32, what is kept of the sample itself, in pixels and
      labels alike; `box` (B, axes, 2) int32, [start, stop) of what cutmix takes from the partner,
      empty where mixup is taken.
    """
    keys = jax.random.split(key, 4 + len(spatial))
    # Everybody in a ring of random order, and each one's partner the next.
    ring = jax.random.permutation(keys[0], batch)
    partner = jnp.zeros_like(ring).at[ring].set(jnp.roll(ring, -1))
    if mixup and cutmix:
        cut = jax.random.uniform(keys[1], (batch,)) < switch
    else:
        cut = jnp.full((batch,), bool(cutmix))
    blended = jax.random.beta(keys[2], mixup or 1.0, mixup or 1.0, (batch,))
    wanted = jax.random.beta(keys[3], cutmix or 1.0, cutmix or 1.0, (batch,))
    sides = []
    for axis, side in enumerate(spatial):
        length = jnp.floor(side * jnp.sqrt(1 - wanted)).astype(jnp.int32)
        centre = jax.random.randint(keys[4 + axis], (batch,), 0, side)
        sides.append(
            jnp.stack(
                [
                    jnp.clip(centre - length // 2, 0, side),
                    jnp.clip(centre + (length + 1) // 2, 0, side),
                ],
                axis=-1,
            )
        )
    box = jnp.where(cut[:, None, None], jnp.stack(sides, axis=1), 0)
    # What was cut off at the border counts for the label too: the share is of the pixels.
    taken = jnp.prod(box[..., 1] - box[..., 0], axis=1) / math.prod(spatial)
    return {"partner": partner, "share": jnp.where(cut, 1 - taken, blended), "box": box}


def mix_images(images: jax.Array, partners: jax.Array, share: jax.Array, box: jax.Array):
    """Images (B, *spatial, C) with their partners' pixels in the box, or blended where it is empty.

    The share and the box are `mixing_draw`'s.
    """
    inside = _inside(box, images.shape[1:-1])[..., None]
    is_cut = (box[..., 1] > box[..., 0]).all(1)
    # A cut image is not blended outside its box, and a box that shrank to nothing changes nothing.
    kept = jnp.where(is_cut, 1.0, share)
    return jnp.where(inside, partners, mix(images, partners, kept))


def mix(a: jax.Array, b: jax.Array, share: jax.Array) -> jax.Array:
    """share * a + (1 - share) * b, with a share (B,) for every sample."""
    share = share.reshape(-1, *[1] * (a.ndim - 1))
    return share * a + (1 - share) * b


def _below(key, batch, limits):
    """(batch,) int32, uniform from 0 to below `limits`."""
    uniform = jax.random.uniform(key, (batch,))
    return jnp.minimum(jnp.floor(uniform * limits).astype(jnp.int32), limits - 1)


def _inside(boxes, spatial):
    """(B, *spatial) bool: which pixels lie in the box."""
    inside = jnp.ones((len(boxes), *spatial), bool)
    for axis, side in enumerate(spatial):
        shape = [1] * (len(spatial) + 1)
        shape[axis + 1] = side
        place = jnp.arange(side).reshape(shape)
        start, stop = (boxes[:, axis, i].reshape(-1, *[1] * len(spatial)) for i in (0, 1))
        inside &= (place >= start) & (place < stop)
    return inside

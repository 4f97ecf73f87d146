"""Whether one picture is a copy of another: their correlation where they lie on each other best.

What is shown of a copy may be shifted, scaled, brighter and of another contrast. Scale and shift
are found as by Lucas and Kanade (1981), together with brightness and contrast: a least-squares
problem in five unknowns a step, on small grey pictures.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

SIDE = 32  # of the pictures, in pixels
_FIRST, _STEPS = 1, 3  # times a pair is laid on each other; more change nothing
_NEAR = 0.45  # correlation at first: 0.5 to 0.8 where a crop begins at the nearest of a few
_OVERLAP = 0.6  # of the second picture's pixels, at least
_BATCH, _LITTLE = 1024, 64
_NOISE = 2 / 255  # that coding and rounding leave
_FINE = 2.0  # pixels: the deviation of the blur that is taken off for what is fine


def correlation(first: np.ndarray, second: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """How well the second picture of each pair is explained as a part of the first.

    Compared is what is left of pictures without their blur, which tells two things of one outline
    apart; it has to lie on each other well before it is looked at closely.

    Args:
      first, second: (P, SIDE, SIDE) float, grey, about 1 between black and white.
      boxes: (P, 3) where to begin: the side and the left and upper edge of that part, in sides of
        the first picture.

    Returns:
      (P,) float32, the correlation in the overlap; 0 where a picture is flat.
    """
    places = np.stack(
        [boxes[:, 0], *(_shift(boxes[:, 0], boxes[:, i]) for i in (1, 2))], axis=1, dtype=np.float32
    )
    found = np.zeros(len(first), np.float32)
    left = np.arange(len(first))
    for steps, enough in ((_FIRST, _NEAR), (_STEPS, -1.0)):
        for start in range(0, len(left), _BATCH):
            some = left[start : start + _BATCH]
            # Padded to one of two sizes, so that few programs are compiled.
            size = _BATCH if len(some) > _LITTLE else _LITTLE
            rows = np.pad(some, (0, size - len(some)), "edge")
            given = (np.asarray(x[rows], np.float32) for x in (first, second, places))
            values, reached = _correlation(*given, steps=steps)
            found[some], places[some] = values[: len(some)], reached[: len(some)]
        left = left[found[left] >= enough]
    return found


@functools.partial(jax.jit, static_argnames="steps")
def _correlation(first, second, places, *, steps):
    return jax.vmap(functools.partial(_one, steps=steps))(first, second, places)


def _one(first, second, place, *, steps):
    first, second = (x - x.mean() for x in (first, second))

    best, score = place, -1.0
    for step in range(steps):  # not scanned: a loop of XLA's on a CPU takes twice the time
        warped, across, down, inside = _warped(first, place)
        now = _agreement(warped, second, inside)
        best, score = jnp.where(now > score, place, best), jnp.maximum(now, score)
        if step + 1 < steps:
            place = place + _step(warped, across, down, inside, second)
    warped, *_, inside = _warped(first, best)
    one, other = _parted(warped), _parted(second)
    # Where what is fine is no more than noise, what is broad has to decide.
    least = jnp.minimum(jnp.std(one[1]), jnp.std(other[1]))
    share = jnp.clip(_NOISE / jnp.maximum(least, 1e-6), 0, 1)
    one, other = (fine + share * broad for broad, fine in (one, other))
    return _agreement(one, other, inside), best


def _shift(side, edge):
    """Of a part's centre from the picture's, in pixels."""
    return (edge + side / 2 - 0.5) * SIDE


def _warped(first, place):
    """The first picture as the second would show it, its slopes, and which pixels it has."""
    rows, rows_slope, has_row = _kernel(place[0], place[2])
    columns, columns_slope, has_column = _kernel(place[0], place[1])
    across = rows @ first @ columns_slope.T
    down = rows_slope @ first @ columns.T
    return rows @ first @ columns.T, across, down, has_row[:, None] * has_column[None]


def _kernel(scale, shift):
    """(SIDE, SIDE) of Catmull and Rom's cubic, its slope, and which rows lie inside."""
    middle = (SIDE - 1) / 2
    at = (jnp.arange(SIDE) - middle) * scale + middle + shift
    inside = ((at >= -0.5) & (at <= SIDE - 0.5)).astype(jnp.float32)
    d = jnp.clip(at, 0, SIDE - 1)[:, None] - jnp.arange(SIDE)[None]
    x = jnp.abs(d)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    near_slope, far_slope = 4.5 * x**2 - 5 * x, -1.5 * x**2 + 5 * x - 4
    weights = jnp.where(x < 1, near, jnp.where(x < 2, far, 0))
    slope = jnp.sign(d) * jnp.where(x < 1, near_slope, jnp.where(x < 2, far_slope, 0))
    total = weights.sum(1, keepdims=True)
    return weights / total, slope / total, inside


def _agreement(a, b, inside):
    """Correlation in the overlap; -1 where that is too little."""
    count = jnp.maximum(inside.sum(), 1)
    a, b = ((x - (x * inside).sum() / count) * inside for x in (a, b))
    scale = jnp.sqrt((a**2).sum() * (b**2).sum())
    found = jnp.where(scale > 1e-9, (a * b).sum() / jnp.maximum(scale, 1e-9), 0)
    return jnp.where(count >= _OVERLAP * SIDE**2, found, -1)


def _step(warped, across, down, inside, second):
    """What to add to scale and shift, by least squares."""
    middle = (SIDE - 1) / 2
    x, y = jnp.arange(SIDE)[None] - middle, jnp.arange(SIDE)[:, None] - middle
    columns = [warped, jnp.ones_like(warped), x * across + y * down, across, down]
    known = jnp.stack([(column * inside).ravel() for column in columns])
    gram, right = known @ known.T, known @ (second * inside).ravel()
    scale = jnp.sqrt(jnp.maximum(jnp.diag(gram), 1e-12))
    # A little is added to the diagonal: flat pictures have no slopes to go by.
    gram = gram / scale[:, None] / scale[None] + 1e-4 * jnp.eye(5)
    found = jnp.linalg.solve(gram, right / scale) / scale
    contrast = jnp.where(jnp.abs(found[0]) > 0.05, found[0], jnp.inf)
    most = jnp.array([0.05, 1.5, 1.5])  # a step, as slopes hold nearby alone
    return jnp.clip(found[2:] / contrast, -most, most)


def _parted(x):
    """What is broad in a picture, and what is fine."""
    radius = 6
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / _FINE) ** 2)
    blur = np.zeros((SIDE, SIDE), np.float32)
    for row in range(SIDE):
        for offset, weight in zip(range(-radius, radius + 1), weights, strict=True):
            blur[row, min(max(row + offset, 0), SIDE - 1)] += weight / weights.sum()
    broad = blur @ x @ blur.T
    return broad, x - broad

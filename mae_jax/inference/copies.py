"""Copies among images: who may be one by features, who is one by pixels, how many are found."""

import dataclasses

import numpy as np

from mae_jax.data.progress import Progress
from mae_jax.evaluation import alignment, planted
from mae_jax.inference import altered
from mae_jax.inference.nearest import Bank, Space
from mae_jax.inference.views import views
from mae_jax.pixels import Pixels

OF_ALTERED = 2  # neighbours of an altered image that are looked at
_SAMPLE = 128  # images that copies are planted of, at most
_MISSED = 0.01  # of planted copies, that the least cosine leaves out
_CHUNK = 256
# Of an image, beside its features: the small picture, and the neighbours of all its views.
BYTES = 2 * alignment.SIDE**2 + 8 * (10 + 5 * OF_ALTERED)

WHOLE = "whole"


@dataclasses.dataclass(frozen=True)
class Plan:
    """A search: which records are looked for, and among which, each from the first to the last."""

    queries: tuple[int, int]
    among: tuple[int, int]


@dataclasses.dataclass
class Candidates:
    """What a search gave of one way to show an image.

    Attributes:
      cosines, rows: (queries, k); the record itself has -2 and -1.
    """

    cosines: np.ndarray
    rows: np.ndarray


def search(bank: Bank, vectors: np.ndarray, plan: Plan, how: str, k: int, what: str) -> Candidates:
    """The nearest of each query, itself left out.

    Args:
      vectors: (records, D) of images shown in this way, a row for each of the bank's.
    """
    first, last = plan.queries
    k = k if how == WHOLE else min(k, OF_ALTERED)
    cosines, rows = bank.nearest(vectors[first:last], k + 1, plan.among, what=what)
    cosines = cosines.copy()
    itself = rows == np.arange(first, last, dtype=np.int32)[:, None]
    cosines[itself] = -2
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    cosines, rows = (np.take_along_axis(x, order, axis=1) for x in (cosines, rows))
    return Candidates(cosines, np.where(cosines < -1.5, -1, rows))


def small(source, pixels: Pixels, indices: np.ndarray, what: str = "") -> np.ndarray:
    """Records as `alignment` takes them, all of an image: (records, SIDE, SIDE) float16."""
    whole = dataclasses.replace(pixels.resized((alignment.SIDE,) * 2), crop=1.0)
    made = np.zeros((len(indices), alignment.SIDE, alignment.SIDE), np.float16)
    progress, at = Progress(len(indices), what=what, silent=not what), 0
    for part in views(source, whole, indices, _CHUNK, broken_share=1.0):
        made[at : at + len(part.images)] = grey(part.images, pixels)
        at += len(part.images)
        if what:
            progress.did(len(part.images))
    return made


def grey(images: np.ndarray, pixels: Pixels) -> np.ndarray:
    """(B, H, W, C) to (B, H, W) float16 around 0, with about 1 between black and white.

    Floats have no black and white: four of their deviations take that place.
    """
    if images.dtype == np.uint8:
        shade = images.mean(-1, dtype=np.float32) / 255
    else:
        values = images / (4 * np.asarray(pixels.std, np.float32))
        values = np.where(np.isfinite(values), values, np.nan)
        known = ~np.isnan(values)
        sums = np.where(known, values, 0).sum((1, 2), keepdims=True)
        middle = sums / np.maximum(known.sum((1, 2), keepdims=True), 1)
        shade = np.where(known, values, middle).mean(-1)
    shade -= shade.mean((1, 2), keepdims=True)
    return np.clip(shade, -100, 100).astype(np.float16)


def shown(pictures: np.ndarray, how: str) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Small pictures as they are aligned from, and where to begin."""
    if how == WHOLE:
        return pictures, (1.0, 0.0, 0.0)
    box = altered.BOXES[how]
    return (pictures[:, :, ::-1] if how == altered.MIRRORED else pictures), box


def agreement(first: np.ndarray, second: np.ndarray, hows: np.ndarray) -> np.ndarray:
    """The correlation of pairs of small pictures, the first altered as `hows` says."""
    found = np.zeros(len(first), np.float32)
    for how in np.unique(hows):
        some = np.flatnonzero(hows == how)
        from_, box = shown(first[some], str(how))
        found[some] = alignment.correlation(from_, second[some], np.tile(box, (len(some), 1)))
    return found


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is known of a search by copies that were planted.

    Attributes:
      cosine: the least that a pair may have to be looked at.
      recall: of each kind of copy, the share that is found.
      copies: of each kind, that this was measured on.
    """

    cosine: float
    recall: dict[str, float]
    copies: int


def measure(
    encoder, source, pixels, rows, bank: Bank, space: Space, hows, k, threshold
) -> Measured:
    """Plants copies of some images, beside the others, and looks for them as for any.

    The least cosine is chosen on half of the images, and what is found measured on the others.

    Args:
      rows: of the source, that the bank has.
      hows: the ways that images are shown in, the first of which is whole.
      threshold: of correlation.
    """
    rng, count = np.random.default_rng(0), len(rows)
    chosen = np.sort(rng.permutation(count)[: int(np.clip(count // 10, min(count, 8), _SAMPLE))])
    originals, copies = _plant(source, pixels, rows[chosen], rng)
    pictures = {"": _picture(originals, pixels)} | {
        kind: _picture(x, pixels) for kind, x in copies.items()
    }
    named = {
        (kind, how): space(encoder(_view(x, pixels, how)))
        for kind, x in ({"": originals} | copies).items()
        for how in hows
    }
    everything = (0, count)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for kind in copies:
        best, agree = np.full(len(chosen), -2.0), np.full(len(chosen), -1.0)
        for how in hows:
            most = k if how == WHOLE else min(k, OF_ALTERED)
            for asks, answers in (("", kind), (kind, "")):
                given = named[asks, how]
                cosine = (given * named[answers, WHOLE]).sum(1)
                others, rows_found = bank.nearest(given, most + 1, everything)
                others = np.where(rows_found == chosen[:, None], -2, others)
                listed = (others >= cosine[:, None]).sum(1) < most
                value = agreement(pictures[asks], pictures[answers], np.full(len(chosen), how))
                better = listed & (value > agree)
                agree = np.where(better, value, agree)
                best = np.where(better, cosine, best)
        found[kind] = best, agree
    half = np.arange(len(chosen)) % 2 == 0
    cosines = np.concatenate([best[half & (agree >= threshold)] for best, agree in found.values()])
    least = float(np.quantile(cosines, _MISSED)) if len(cosines) else -1.0
    recall = {
        kind: float(((best >= least) & (agree >= threshold))[~half].mean()) if (~half).any() else 0
        for kind, (best, agree) in found.items()
    }
    return Measured(least, recall, int((~half).sum()))


def _plant(source, pixels, rows, rng):
    """Whole images, square, as large as the encoder's view is cut from; and copies of them."""
    sides = tuple(max(1, round(side / pixels.crop)) for side in pixels.size)
    whole = dataclasses.replace(pixels.resized(sides), crop=1.0)
    originals = np.concatenate(
        [part.images for part in views(source, whole, rows, _CHUNK, broken_share=1.0)]
    )
    copies = {}
    for kind, make in planted.KINDS.items():
        made = [make(image, rng) for image in originals]
        if all(one is not None for one in made):
            copies[kind] = np.stack(made)
    return originals, copies


def _view(images, pixels, how):
    """What the encoder is given of whole images."""
    height, width = images.shape[1:3]
    top, left = ((a - b) // 2 for a, b in zip((height, width), pixels.size, strict=True))
    cut = images[:, top : top + pixels.size[0], left : left + pixels.size[1]]
    return altered.alter(cut, None if how == WHOLE else how)


def _picture(images, pixels):
    box, side = (0, 0, images.shape[2], images.shape[1]), (alignment.SIDE,) * 2
    return grey(np.stack([altered.resized(image, box, side) for image in images]), pixels)

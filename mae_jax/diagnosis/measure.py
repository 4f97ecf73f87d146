"""What can be measured of a model on images without labels."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mae_jax.data import sources
from mae_jax.data.progress import Progress, say
from mae_jax.diagnosis import bands, free, pictures
from mae_jax.diagnosis.tally import Tally
from mae_jax.evaluation import rank
from mae_jax.inference.views import views
from mae_jax.models import masking, patches
from mae_jax.pixels import Pixels
from mae_jax.weights import model as model_lib
from mae_jax.weights.described import Weights

_BATCH = 64
_TARGETS = ("pixels", "pca")  # of pixels alone, so that pictures can be compared with it
_SAME_MASK = 32  # images that are hidden by one mask, to see whether what is visible matters


@dataclasses.dataclass(frozen=True)
class Sample:
    """Some images of a part of the data.

    Attributes:
      images: (B, H, W, C) as they travel to a device, unreadable ones not among them.
      facts: what they are like.
    """

    images: np.ndarray
    facts: pictures.Pictures


def sample(source: sources.Source, pixels: Pixels, count: int, seed: int) -> Sample:
    """Images drawn without repetition, in evaluation's view; what cannot be read is counted."""
    drawn = np.random.default_rng(seed).permutation(len(source))[:count]
    found = list(views(source, pixels, np.sort(drawn), _BATCH, broken_share=1.0))
    images, labels, sound = (
        np.concatenate([getattr(part, name) for part in found])
        for name in ("images", "labels", "sound")
    )
    facts = pictures.look(images, sound, labels, pixels, len(source.classes))
    return Sample(images[sound], facts)


class Model:
    """A model, trained or not, as functions of images as they travel to a device."""

    def __init__(self, model: nnx.Module, pixels: Pixels):
        self.module, self.pixels = model, pixels
        self._split = nnx.split(model)

    def features(self, images: np.ndarray) -> np.ndarray:
        """(B, D): patch tokens of whole images, averaged."""
        return self._mapped(_features, images)

    def predict(self, images: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predictions (B, N, values), and the mask (B, N)."""
        return self._mapped(_predict, images, noise)

    def _mapped(self, function, *arrays):
        made, count = [], len(arrays[0])
        for at in range(0, count, _BATCH):
            part = [array[at : at + _BATCH] for array in arrays]
            short = _BATCH - len(part[0])  # of one shape, so that one program is compiled
            padded = [np.pad(a, [(0, short)] + [(0, 0)] * (a.ndim - 1), "edge") for a in part]
            found = function(*self._split, self.pixels, *padded)
            made.append(jax.tree.map(lambda x: np.asarray(x)[: _BATCH - short], found))  # noqa: B023
        return jax.tree.map(lambda *parts: np.concatenate(parts), *made)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _features(graphdef, state, pixels, images):
    return nnx.merge(graphdef, state).encoder.mean_patches(pixels.standardise(images))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _predict(graphdef, state, pixels, images, noise):
    model = nnx.merge(graphdef, state)
    output = model(pixels.standardise(images), noise=noise, known=pixels.known(images))
    return output.pred, output.mask


def predicts_pixels(weights: Weights) -> bool:
    """Whether there is a loss that pictures can be held against."""
    return weights.kind == "full" and weights.target in _TARGETS


def of_weights(weights: Weights) -> Model:
    """The trained model, with all blocks as one program."""
    return Model(model_lib.build(weights, scan=True), weights.pixels)


def losses(
    model: Model, weights: Weights, held: Sample, train: Sample | None, seed: int
) -> dict[str, Any]:
    """The losses on hidden patches, the same masks for both parts, beside what costs nothing.

    Returns:
      `held_out` and `train` (None without), `free` by name, `bands` as of `bands.explained`,
      `ratio` of hidden patches, `norm_pix`, and `visible_matters`: how much predictions change with
      the image where the mask is the same, over how much what is to be predicted does.
    """
    noise = _noise(weights, max(len(s.images) for s in (held, train) if s is not None), seed)
    mean_image = _mean_image(held if train is None else train, weights.pixels)
    tally, left, whole, ratio = Tally(), 0.0, 0.0, []
    for part in _parts(model, weights, held, noise):
        tally.add(_MODEL, part.pred, part.wanted, part.counted)
        ratio.append(part.mask)
        made = free.predictions(part.standard, part.mask, weights.dimensions.patch_size, mean_image)
        for name, values in made.items():
            guess = _targeted(model, np.ascontiguousarray(values), part.told)
            tally.add(name, guess, part.wanted, part.counted)
        if weights.target == "pixels" and part.told is None:
            hidden, size = part.mask > 0, weights.dimensions.patch_size
            left += bands.power((part.pred - part.wanted)[hidden], size)
            whole += bands.power(part.wanted[hidden], size)
    found: dict[str, Any] = {
        "held_out": tally.loss(_MODEL),
        "train": None,
        "ratio": float(np.concatenate(ratio).mean()),
        "norm_pix": weights.norm_pix,
        "free": {
            name: tally.loss(name, scaled=weights.norm_pix)
            for name in tally.names()
            if name != _MODEL
        },
        "visible_matters": _visible_matters(model, weights, held, noise),
    }
    if isinstance(whole, np.ndarray):
        found["bands"] = bands.explained(left, whole)
    if train is not None:
        tally = Tally()
        for part in _parts(model, weights, train, noise):
            tally.add(_MODEL, part.pred, part.wanted, part.counted)
        found["train"] = tally.loss(_MODEL)
    return found


_MODEL = "the model"


class _Part(NamedTuple):
    """A batch: predictions, the mask, standardised images, what was to be predicted, which values
    have data (None: all), and which of them count."""

    pred: np.ndarray
    mask: np.ndarray
    standard: np.ndarray
    wanted: np.ndarray
    told: np.ndarray | None
    counted: np.ndarray


def _parts(model: Model, weights: Weights, sample: Sample, noise: np.ndarray) -> Iterator[_Part]:
    progress = Progress(len(sample.images), what="images", silent=True)
    for at in range(0, len(sample.images), _BATCH):
        images = sample.images[at : at + _BATCH]
        yield _part(model, weights, images, noise[at : at + len(images)])
        progress.did(len(images))


def _part(model, weights, images, noise) -> _Part:
    pred, mask = model.predict(images, noise)
    size, pixels = weights.dimensions.patch_size, weights.pixels
    standard, known = np.asarray(pixels.standardise(images)), pixels.known(images)
    told = None if known is None else np.asarray(patches.patchify(known, size))
    wanted = _targeted(model, np.asarray(patches.patchify(standard, size)), told)
    counted = np.broadcast_to(mask[..., None] > 0, wanted.shape)
    counted = counted if told is None else counted & told
    return _Part(pred, mask, standard, wanted, told, counted)


def _targeted(model, values, told):
    return np.asarray(model.module.target(jnp.asarray(values), told))


def _noise(weights, count, seed):
    sampling = masking.SAMPLINGS.get(weights.sampling)
    if sampling is None:
        say(f"masks are drawn at random, and not by {weights.sampling}")
        sampling = masking.SAMPLINGS["random"]
    key = jax.random.key(seed)
    return np.asarray(
        masking.draw(sampling, key, count, weights.dimensions.grid, weights.mask_unit)
    )


def _mean_image(sample: Sample, pixels: Pixels) -> np.ndarray:
    """Of training images; where there are none, of these themselves, which is better than fair."""
    total = count = np.float64(0)
    for at in range(0, len(sample.images), _BATCH):
        images = sample.images[at : at + _BATCH]
        known = pixels.known(images)
        total = total + np.asarray(pixels.standardise(images)).sum(0, dtype=np.float64)
        count = count + (len(images) if known is None else np.asarray(known).sum(0))
    return (total / np.maximum(count, 1)).astype(np.float32)


def _visible_matters(model, weights, sample, noise) -> float:
    """Of values that all images have."""
    images = sample.images[:_SAME_MASK]
    one = np.ascontiguousarray(np.broadcast_to(noise[:1], (len(images), noise.shape[1])))
    part = _part(model, weights, images, one)
    counted = part.counted.all(0)
    if not counted.any():
        return 0.0
    made, should = (x[:, counted].var(0).mean() for x in (part.pred, part.wanted))
    return float(made / max(should, 1e-12))


def features(
    model: Model, start: Model | None, held: Sample, train: Sample | None
) -> tuple[dict[str, Any], np.ndarray]:
    """What features are like, and those of all images, (B, D), those held out first.

    Returns:
      `rank`, of at most `rank_of`; `largest` and `largest_ten`, shares of the variance; `spread`;
      `like_start`, how alike they are to those of the same model before training, and
      `rank_at_start` (None without).
    """
    made = model.features(held.images)
    found: dict[str, Any] = {
        "rank": rank.rankme(made),
        "rank_of": min(made.shape),
        "largest": rank.largest_share(made),
        "largest_ten": rank.largest_share(made, 10),
        "spread": rank.spread(made),
        "like_start": None,
        "rank_at_start": None,
    }
    if start is not None:
        before = start.features(held.images)
        found["like_start"] = rank.alike(made, before)
        found["rank_at_start"] = rank.rankme(before)
    return found, made if train is None else np.concatenate([made, model.features(train.images)])


def moved(weights: Weights, start: Model) -> float:
    """How far the kernels of the encoder's blocks are from the start's, over the start's length."""
    before, apart, length = model_lib.tensors(start.module), 0.0, 0.0
    for name, value in weights.tensors.items():
        if name.startswith("blocks.") and value.ndim > 1 and name in before:
            apart += float(np.square(value - before[name]).sum())
            length += float(np.square(before[name]).sum())
    return float(np.sqrt(apart / max(length, 1e-30)))

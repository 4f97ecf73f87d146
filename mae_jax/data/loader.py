"""Global order, each host's share, batches, and the position to resume from.

The batch of step s is a function of (data, seed, s, global batch size) and of nothing else. So a
run's position in its data is its step, and resuming costs nothing.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from mae_jax.data import augment, images
from mae_jax.data.channels import channel_statistics
from mae_jax.data.randaugment import RandAugment
from mae_jax.data.sources import Source
from mae_jax.errors import BrokenRecord

Batch = dict[str, np.ndarray]
_ORDER = 2**64 - 1  # in the place of a record's index in the key that an epoch's order is drawn by


@dataclasses.dataclass(frozen=True)
class Picture:
    """How a record becomes pixels.

    Attributes:
      size: height and width in pixels.
      channels: values per pixel.
      crop_scale, crop_ratio, flip: the training augmentation.
      randaugment: what comes after it, or None.
      eval_crop: the evaluation crop, as a share of the shorter side.
    """

    size: tuple[int, int]
    channels: int
    crop_scale: tuple[float, float]
    crop_ratio: tuple[float, float]
    flip: bool
    eval_crop: float
    randaugment: RandAugment | None = None

    @classmethod
    def from_config(cls, config) -> "Picture":
        sides = config.model.image_size
        return cls(
            size=(sides[0], sides[-1]),
            channels=config.model.channels,
            crop_scale=tuple(config.data.crop_scale),
            crop_ratio=tuple(config.data.crop_ratio),
            flip=config.data.flip,
            eval_crop=config.data.eval_crop,
            randaugment=_randaugment(config),
        )

    def augmented(self, image: augment.Picture, rng: np.random.Generator) -> np.ndarray:
        """A random view of a decoded image, (H, W, C) uint8."""
        image = augment.random_resized_crop(image, self.size, rng, self.crop_scale, self.crop_ratio)
        if self.flip and rng.random() < 0.5:
            image = augment.mirror(image)
        if self.randaugment is not None:
            image = self.randaugment(image, rng)
        return augment.pixels(image)

    def plain(self, image: augment.Picture) -> np.ndarray:
        """The evaluation view of a decoded image, (H, W, C) uint8."""
        return augment.pixels(augment.centre_crop(image, self.size, self.eval_crop))


def _randaugment(config):
    data = config.data
    if not data.randaugment:
        return None
    mean, _ = channel_statistics(config)
    return RandAugment(
        operations=data.randaugment,
        magnitude=data.randaugment_magnitude,
        deviation=data.randaugment_std,
        share=data.randaugment_share,
        fill=tuple(round(255 * value) for value in mean),
    )


class Decoder:
    """Opens and decodes a source's records, keeping them in memory if asked to."""

    def __init__(self, source: Source, picture: Picture, cache: bool):
        self._source, self._channels = source, picture.channels
        self._cache: dict[int, Any] | None = {} if cache else None

    def __call__(self, index: int) -> tuple[augment.Picture, int]:
        """(decoded image, label) of a record."""
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        record = self._source[index]
        decoded = images.decode(record.data, self._channels, record.name), record.label
        if self._cache is not None:
            self._cache[index] = decoded
        return decoded


class TrainBatches:
    """Batches by step: `batches[s]` is what every run with this data and seed trains on at s.

    Every epoch goes through all records once, in an order of its own; a batch may span the end of
    one and the beginning of the next. Augmentation is keyed by (seed, epoch, record).

    Args:
      source: the records.
      picture: how they become pixels.
      batch_size: images per step, over all hosts.
      seed: of order and augmentation.
      steps: how many there are.
      rows: the places in each batch to make, for this process; all of them by default.
    """

    def __init__(
        self,
        source: Source,
        picture: Picture,
        *,
        batch_size: int,
        seed: int,
        steps: int,
        cache: bool = False,
        rows: Sequence[int] | None = None,
    ):
        self._picture, self._batch_size, self._seed = picture, batch_size, seed
        self._records, self._steps = len(source), steps
        self._rows = [int(row) for row in (range(batch_size) if rows is None else rows)]
        self._decode = Decoder(source, picture, cache)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        views, labels = [], []
        for row in self._rows:
            epoch, place = divmod(step * self._batch_size + row, self._records)
            index = int(_order(self._records, self._seed, epoch)[place])
            image, label = self._decode(index)
            rng = np.random.Generator(np.random.Philox(key=_key(self._seed, epoch, index)))
            views.append(self._picture.augmented(image, rng))
            labels.append(label)
        return {"image": np.stack(views), "label": np.array(labels, np.int32)}

    def iterate(self, start: int, workers: int) -> Iterator[Batch]:
        """Batches from step `start` on, made ahead in threads, or in `workers` processes.

        Raises:
          BrokenRecord: an image cannot be read.
        """
        ahead = grain.MapDataset.source(self)[start:].to_iter_dataset(
            grain.ReadOptions(
                num_threads=1 if workers else min(os.cpu_count() or 1, 16),
                prefetch_buffer_size=2 if workers else min(2 * (os.cpu_count() or 1), 16),
            )
        )
        if workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # grain passes absl's flags on to its processes
            options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=2)
            # Batches arrive in shared memory, which must not outlive its owner: copied out.
            ahead = ahead.mp_prefetch(options).map(
                lambda batch: {name: np.array(values) for name, values in batch.items()}
            )
        return _unwrapped(ahead)


@functools.lru_cache(maxsize=4)  # asked for record by record, by several threads
def _order(records: int, seed: int, epoch: int) -> np.ndarray:
    # A hundred times cheaper per record than grain's shuffle, which is a cipher of the index.
    rng = np.random.Generator(np.random.Philox(key=_key(seed, epoch, _ORDER)))
    return rng.permutation(records)


def _key(seed: int, epoch: int, index: int) -> np.ndarray:
    return np.array([seed << 32 | epoch, index], np.uint64)


def _unwrapped(batches) -> Iterator[Batch]:
    """Brings an error of ours out of the wrapping that worker processes put around it."""
    try:
        yield from batches
    except Exception as error:
        broken = _cause(error)
        raise broken from None if broken is not error else error.__cause__


def _cause(error: BaseException) -> BaseException:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BrokenRecord):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error


def plain_batches(
    source: Source,
    picture: Picture,
    batch_size: int,
    cache: bool = False,
    rows: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Every record once, in order, without augmentation, in batches of one size.

    The last batch is filled up with the last image. Of each batch only `rows` are made, for this
    process; `weight`, 1 for images and 0 for filling, is that of the whole batch.
    """
    decode, last = Decoder(source, picture, cache), len(source) - 1
    rows = range(batch_size) if rows is None else rows
    for start in range(0, len(source), batch_size):
        made: dict[int, tuple[np.ndarray, int]] = {}
        places = [min(start + int(row), last) for row in rows]
        for place in places:
            if place not in made:
                image, label = decode(place)
                made[place] = picture.plain(image), label
        yield {
            "image": np.stack([made[place][0] for place in places]),
            "label": np.array([made[place][1] for place in places], np.int32),
            "weight": (start + np.arange(batch_size) <= last).astype(np.float32),
        }

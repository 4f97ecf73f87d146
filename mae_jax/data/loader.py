"""Batches by step, each host's share of them, and the position to resume from.

The batch of step s is a function of (data, seed, s, global batch size) and of nothing else. So a
run's position in its data is its step, and resuming costs nothing.
"""

import dataclasses
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mae_jax.data import augment, images, memory, processes, workers
from mae_jax.data.broken import Ledger, first_sound
from mae_jax.data.form import Form
from mae_jax.data.jitter import ColourJitter
from mae_jax.data.order import Order, view_rng
from mae_jax.data.randaugment import RandAugment
from mae_jax.data.records import Batch, Source
from mae_jax.pixels import Pixels


@dataclasses.dataclass(frozen=True)
class Picture:
    """How a record becomes pixels.

    Attributes:
      pixels: what the network is given.
      crop_scale, crop_ratio: of a random crop.
      flip: whether every second image is mirrored.
      randaugment: what comes after it, or None.
      crop: which part training sees: "random" in size and place; "fixed" in size, at a random
        place; or "none", the middle, as in evaluation.
      fixed_crop: side of a fixed crop, as a share of the image's shorter side.
      jitter: of colours, what comes last, or None.
    """

    pixels: Pixels
    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    flip: bool = False
    randaugment: RandAugment | None = None
    crop: str = "random"
    fixed_crop: float = 1.0
    jitter: ColourJitter | None = None

    @classmethod
    def from_config(cls, config) -> "Picture":
        data, pixels = config.data, Pixels.from_config(config)
        return cls(
            pixels,
            crop=data.crop,
            crop_scale=tuple(data.crop_scale),
            crop_ratio=tuple(data.crop_ratio),
            fixed_crop=data.fixed_crop,
            flip=data.flip,
            randaugment=_randaugment(data, pixels) if data.randaugment else None,
            jitter=ColourJitter(data.color_jitter) if data.color_jitter else None,
        )

    @property
    def form(self) -> Form:
        """What an image is decoded to."""
        return Form.of(self.pixels)

    def augmented(
        self, image: images.Image, rngs: Sequence[np.random.Generator], wanted: Sequence[int] = (0,)
    ) -> list[np.ndarray]:
        """Random views of an image, (H, W, C) each.

        Args:
          image: decoded once for all.
          rngs: one for each view.
          wanted: which of the views to make; all of them decide how finely it is decoded.
        """
        boxes = [image.moved(self._box(image, rng), rng) for rng in rngs]
        mirrored = [self.flip and rng.random() < 0.5 for rng in rngs]
        # Crops that are not random in size are those of an image that was resized as a whole.
        views = image.views(boxes, self.pixels.size, around=self.crop != "random")
        made = [augment.mirror(views[k]) if mirrored[k] else views[k] for k in wanted]
        for change in (self.randaugment, self.jitter):
            if change is not None:
                made = [change.on_pixels(x, rngs[k]) for x, k in zip(made, wanted, strict=True)]
        return made

    def _box(self, image, rng):
        height, width, size = image.height, image.width, self.pixels.size
        if self.crop == "none":
            return augment.central_box(height, width, size, self.pixels.crop)
        if self.crop == "fixed":
            return augment.fixed_box(height, width, size, self.fixed_crop, rng)
        return augment.random_box(height, width, rng, self.crop_scale, self.crop_ratio)

    def plain(self, image: images.Image) -> np.ndarray:
        """The evaluation view of an image, (H, W, C)."""
        size = self.pixels.size
        box = augment.central_box(image.height, image.width, size, self.pixels.crop)
        return image.views([box], size, around=True)[0]


def _randaugment(data, pixels):
    return RandAugment(
        operations=data.randaugment,
        magnitude=data.randaugment_magnitude,
        deviation=data.randaugment_std,
        share=data.randaugment_share,
        fill=tuple(round(255 * value) for value in pixels.mean),
    )


class Decoder:
    """Opens a source's records, keeping them decoded in memory if asked to."""

    def __init__(self, source: Source, picture: Picture, cache: bool):
        self._source, self._form = source, picture.form
        self._cache: dict[int, tuple[images.Image, int]] | None = {} if cache else None

    def __call__(self, index: int) -> tuple[images.Image, int]:
        """(image, label) of a record.

        Raises:
          BrokenRecord: it cannot be opened. One that can may still turn out broken when viewed.
        """
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        record = self._source[index]
        if self._cache is None:
            return images.open_image(record.data, self._form, record.name), record.label
        pixels = images.decode(record.data, self._form, record.name)
        self._cache[index] = images.Pixels(pixels, self._form.nodata is not None), record.label
        return self._cache[index]


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
      cache: keep decoded images in memory.
      rows: the places in each batch to make, for this process; all of them by default.
      repeats: views of each record, one after the other, for which it is decoded once.
      ledger: of broken records; without one the first ends the run.
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
        repeats: int = 1,
        ledger: Ledger | None = None,
    ):
        self._picture, self._batch_size, self._seed = picture, batch_size, seed
        self._records, self._steps, self._repeats = len(source), steps, repeats
        self._order = Order(seed, source.parts, source.shares)
        self._rows = [int(row) for row in (range(batch_size) if rows is None else rows)]
        self._decode = Decoder(source, picture, cache)
        self._broken: set[int] = set()
        self._ledger = ledger or Ledger(source, 0, self._check)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        """`image` and `label` of this process's rows, and `passed`: broken records passed over."""
        made = self.empty(len(self._rows))
        self.piece(step, self._rows, made)
        return made

    def empty(self, count: int) -> Batch:
        """What so many rows of a batch fit into."""
        pixels = self._picture.pixels
        return {
            "image": np.empty((count, *pixels.size, pixels.channels), pixels.kind),
            "label": np.empty(count, np.int32),
            "passed": np.empty(count, np.int32),
        }

    def piece(self, step: int, rows: Sequence[int], into: Batch) -> None:
        """Makes some rows of a batch, as `batches[step]` has all, in arrays like `empty`'s."""
        places = [divmod(step * self._batch_size + row, self._repeats) for row in rows]
        done = 0
        for visit, group in itertools.groupby(places, key=operator.itemgetter(0)):
            (views, label), passed = self._views(visit, [repeat for _, repeat in group])
            for view in views:
                into["image"][done] = view
                into["label"][done], into["passed"][done] = label, passed
                done += 1

    def _views(self, visit, wanted):
        epoch, record = self._order(visit)

        def make(candidate):
            image, label = self._decode(candidate)
            rngs = [view_rng(self._seed, epoch, record, k) for k in range(self._repeats)]
            return self._picture.augmented(image, rngs, wanted), label

        return first_sound(record, self._records, make, self._broken)

    def iterate(self, start: int, processes: int) -> Iterator[Batch]:
        """Batches from step `start` on, made ahead in threads, or in worker processes.

        Raises:
          BrokenRecord: more images cannot be read than is allowed.
          WorkerDied: a worker process is gone.
        """
        made = workers.ahead(self, start, processes) if processes else workers.threads(self, start)
        for step, batch in enumerate(made, start):
            passed = batch.pop("passed")
            for place in np.flatnonzero(passed):
                row = step * self._batch_size + self._rows[place]
                _, record = self._order(row // self._repeats)
                self._ledger.note((record + k) % self._records for k in range(passed[place]))
            yield batch

    def records(self, step: int) -> list[int]:
        """The records at this process's rows of a batch, before broken ones are replaced."""
        visits = [(step * self._batch_size + row) // self._repeats for row in self._rows]
        return [self._order(visit)[1] for visit in visits]

    @property
    def rows(self) -> list[int]:
        """The places in each batch that this process makes."""
        return self._rows

    def _check(self, record):
        self._picture.plain(self._decode(record)[0])

    def __getstate__(self):
        # The worker processes make batches; only the one that reads them counts what was broken.
        return self.__dict__ | {"_ledger": None}

    def __setstate__(self, state):
        self.__dict__ |= state
        memory.keep_freed()  # here is a worker process, which does nothing but this


def new_ledger(
    config, source: Source, say: Callable[[str], None], share: float | None = None
) -> Ledger:
    """Of a run's broken records, as its config says, or with another `share` of them allowed."""
    picture = Picture.from_config(config)
    decode = Decoder(source, picture, cache=False)
    share = config.data.broken_share if share is None else share
    return Ledger(source, share, lambda i: picture.plain(decode(i)[0]), say)


def default_workers(cache: bool) -> int:
    """Worker processes for the cores that this process may use: one each, none for a single core.

    Args:
      cache: whether decoded images are kept; then threads share one copy of them.
    """
    cores = processes.cores()
    return 0 if cache or cores < 2 else cores


def plain_batches(
    source: Source,
    picture: Picture,
    batch_size: int,
    cache: bool = False,
    rows: Sequence[int] | None = None,
    ledger: Ledger | None = None,
) -> Iterator[Batch]:
    """Every record once, in order, without augmentation, in batches of one size.

    The last batch is filled up with the last image. Of each batch only `rows` are made, for this
    process; `weight`, 1 for images and 0 for filling, is that of the whole batch. Broken records
    are replaced as in training, and noted in the ledger; without one the first is an error.
    """
    decode, last, broken = Decoder(source, picture, cache), len(source) - 1, set()
    rows = range(batch_size) if rows is None else rows

    def make(place):
        image, label = decode(place)
        return picture.plain(image), label

    for start in range(0, len(source), batch_size):
        made: dict[int, tuple[np.ndarray, int]] = {}
        places = [min(start + int(row), last) for row in rows]
        for place in places:
            if place in made:
                continue
            if ledger is None:
                made[place] = make(place)
                continue
            made[place], passed = first_sound(place, len(source), make, broken)
            ledger.note((place + k) % len(source) for k in range(passed))
        yield {
            "image": np.stack([made[place][0] for place in places]),
            "label": np.array([made[place][1] for place in places], np.int32),
            "weight": (start + np.arange(batch_size) <= last).astype(np.float32),
        }

"""Looks at every record of a set: which are broken, how fast they come, mean and deviation."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mae_jax.data import prepare, processes
from mae_jax.data.loader import Decoder, Picture
from mae_jax.data.order import view_rng
from mae_jax.data.progress import Progress, say
from mae_jax.data.records import Source
from mae_jax.errors import BrokenRecord

_CHUNK = 64
_TIMED = 2000  # records that speed is measured on, at most


@dataclasses.dataclass(frozen=True)
class Looker:
    """Looks at records; sent to the processes that do.

    Attributes:
      source: the records.
      picture: how they become pixels.
      any_kind: verify that records are images, whatever their channels and values.
    """

    source: Source
    picture: Picture
    any_kind: bool = False

    def verify(self, indices: Sequence[int]) -> list[str]:
        """Why each of these that is broken is; every byte is read and decoded."""
        reasons, decode = [], Decoder(self.source, self.picture, cache=False)
        for index in indices:
            try:
                if self.any_kind:
                    record = self.source[index]
                    prepare.check(record.data, record.name)
                    continue
                image, _ = decode(index)
                image.views([(0, 0, image.width, image.height)], (image.height, image.width))
            except BrokenRecord as error:
                reasons.append(str(error))
        return reasons

    def load(self, indices: Sequence[int]) -> float:
        """CPU seconds that the training views of these take."""
        began = time.process_time()
        decode = Decoder(self.source, self.picture, cache=False)
        for index in indices:
            try:
                self.picture.augmented(decode(index)[0], [view_rng(0, 0, index)])
            except BrokenRecord:
                continue
        return time.process_time() - began

    def moments(self, indices: Sequence[int]) -> np.ndarray:
        """(3, C) float64: sums over the pixels with data of one, the value, and its square."""
        decode = Decoder(self.source, self.picture, cache=False)
        total = np.zeros((3, self.picture.pixels.channels))
        for index in indices:
            try:
                view = self.picture.plain(decode(index)[0])
            except BrokenRecord:
                continue
            x = view.reshape(-1, view.shape[-1]).astype(np.float64)
            x /= 255 if view.dtype == np.uint8 else 1
            known = ~np.isnan(x)
            x = np.where(known, x, 0)
            total += [known.sum(0), x.sum(0), (x**2).sum(0)]
        return total


def unstandardised(config):
    """A copy of a config for looking at images whose mean and deviation nobody knows yet."""
    config = config.copy_and_resolve_references()
    if not (config.data.mean and config.data.std):
        config.data.mean, config.data.std = (0.0,), (1.0,)
    return config


def check(
    source: Source, picture: Picture, workers: int | None = None, *, any_kind: bool = False
) -> dict[str, Any]:
    """Reads and decodes every record, names the broken ones, and measures.

    Args:
      picture: how speed is measured, and what records must fit, unless `any_kind` of image will do.
      workers: processes; one per core by default.

    Returns:
      Records, how many are broken, and training images per second: of one core's time, and of all
      workers by the clock.
    """
    looker, everything = Looker(source, picture, any_kind), np.arange(len(source))
    reasons: list[str] = []
    progress = Progress(len(source))
    with _Pool(looker, workers) as pool:
        for count, found in pool.each("verify", everything):
            for reason in found:
                say(f"broken: {reason}")
            reasons += found
            progress.did(count)
        some = np.random.default_rng(0).permutation(everything)[:_TIMED]
        list(pool.each("load", some))  # so that every process has begun, and files are at hand
        began = time.perf_counter()
        seconds = sum(taken for _, taken in pool.each("load", some))
        elapsed = time.perf_counter() - began
    return {
        "records": len(source),
        "broken": len(reasons),
        "workers": pool.workers,
        "images_per_second_per_core": round(len(some) / max(seconds, 1e-9), 1),
        "images_per_second": round(len(some) / elapsed, 1),
        "broken_records": reasons,
    }


def statistics(
    source: Source, picture: Picture, limit: int, workers: int | None = None
) -> dict[str, Any]:
    """Mean and standard deviation of every channel, as data.mean and data.std take them.

    Args:
      limit: images looked at, at most, drawn at random; each by its evaluation view.

    Raises:
      BrokenRecord: not one of them can be read.
    """
    chosen = np.random.default_rng(0).permutation(len(source))[:limit]
    total, progress = np.zeros((3, picture.pixels.channels)), Progress(len(chosen))
    with _Pool(Looker(source, picture), workers) as pool:
        for count, sums in pool.each("moments", chosen):
            total += sums
            progress.did(count)
    if total[0].any() and not total[0].all():
        empty = [c for c, count in enumerate(total[0]) if not count]
        raise BrokenRecord(f"of {len(chosen)} images none has data in channel {empty[0]}, from 0")
    if not total[0].any():
        first = "; ".join(Looker(source, picture).verify([int(chosen[0])]))
        if not first:
            raise BrokenRecord(f"none of {len(chosen)} images has data")
        raise BrokenRecord(f"none of {len(chosen)} images can be read; for instance {first}")
    mean = total[1] / total[0]
    deviation = np.sqrt(np.maximum(total[2] / total[0] - mean**2, 0))
    return {
        "images": len(chosen),
        "mean": [round(float(value), 6) for value in mean],
        "std": [round(float(value), 6) for value in deviation],
    }


class _Pool:
    """Processes that each have a Looker; none for little work."""

    def __init__(self, looker: Looker, workers: int | None):
        self.workers = min(workers or processes.cores(), -(-len(looker.source) // _CHUNK))
        self._looker = looker
        self._pool = processes.Pool(looker, self.workers) if self.workers > 1 else None

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *error) -> None:
        if self._pool is not None:
            self._pool.__exit__(*error)

    def each(self, method: str, indices: np.ndarray) -> Iterator[tuple[int, Any]]:
        """(how many records, what the method gives) for all chunks, in order."""
        chunks = [indices[at : at + _CHUNK].tolist() for at in range(0, len(indices), _CHUNK)]
        if self._pool is None:
            results = map(getattr(self._looker, method), chunks)
        else:
            results = self._pool.in_order(method, chunks)
        return zip(map(len, chunks), results, strict=True)

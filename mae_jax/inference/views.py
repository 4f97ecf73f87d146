"""The views of images that trained models are given: as in training, and no image ends the work."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mae_jax.data import images, large, loader, processes, sources
from mae_jax.data.broken import Ledger
from mae_jax.data.progress import say
from mae_jax.data.records import NO_LABEL
from mae_jax.errors import BrokenRecord, UsageError
from mae_jax.pixels import Pixels, same_values
from mae_jax.weights.described import Weights

BROKEN_SHARE = 1.0  # what only reads goes on with all that can be read, and names the rest


@dataclasses.dataclass(frozen=True)
class Views:
    """Some records of a source, ready for a model.

    Attributes:
      indices: of the records, (B,).
      images: (B, H, W, C) uint8 or float32, zeros where a record is broken.
      labels: (B,) int32.
      digests: (B,) uint64, of the records' bytes; 0 where they cannot be had.
      sound: (B,) bool, False where a record is broken.
    """

    indices: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    sound: np.ndarray


def views(
    source: sources.Source,
    pixels: Pixels,
    indices: Sequence[int],
    size: int,
    *,
    broken_share: float = BROKEN_SHARE,
) -> Iterator[Views]:
    """The evaluation views of records, `size` at a time; the next are decoded while one is used.

    Args:
      pixels: what the model is given.
      indices: of the records wanted.
      broken_share: of the source's records that may be broken, rounded up; they are named.

    Raises:
      BrokenRecord: more are broken than that.
    """
    picture = loader.Picture(pixels)
    blank = np.zeros((*pixels.size, pixels.channels), pixels.kind)

    def view(index):
        record = source[index]
        return record, picture.plain(images.open_image(record.data, picture.form, record.name))

    def one(index):
        try:
            record, image = view(index)
            return image, record.label, digest(record.data), True
        except BrokenRecord:
            return blank, NO_LABEL, 0, False

    ledger = Ledger(source, broken_share, view, say, "left out")
    parts = [np.asarray(indices[at : at + size], int) for at in range(0, len(indices), size)]
    with ThreadPoolExecutor(min(processes.cores(), 16)) as pool:
        waiting = []
        for number in range(len(parts) + 1):
            if number < len(parts):
                waiting.append([pool.submit(one, int(index)) for index in parts[number]])
            if number:
                made, labels, digests, sound = zip(
                    *(future.result() for future in waiting.pop(0)), strict=True
                )
                part, sound = parts[number - 1], np.array(sound)
                ledger.note(part[~sound].tolist())
                labels, digests = np.array(labels, np.int32), np.array(digests, np.uint64)
                yield Views(part, np.stack(made), labels, digests, sound)


def none_is_sound(source: sources.Source) -> str:
    """The error where all records are broken."""
    if len(source) == 1:
        return f"{source.name(0)} cannot be read, and there is no other image"
    return f"none of the {len(source)} images can be read"


def digest(data: bytes | np.ndarray | large.Window) -> int:
    """64 bits that tell one record's bytes from another's."""
    if isinstance(data, np.ndarray):
        data = np.ascontiguousarray(data).tobytes()
    content = data if isinstance(data, bytes) else data.known_by.encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def pixels_for(weights: Weights, config=None) -> Pixels:
    """What a model is given, when a config says on which images.

    All but the crop of evaluation, if the config says one, is the weights' own.

    Raises:
      UsageError: the config says another kind of pixels, mean or deviation.
    """
    pixels = weights.pixels
    if config is None:
        return pixels
    data = config.data
    wrong = [] if data.pixels in (None, pixels.kind) else ["pixels"]
    if data.nodata not in (None, pixels.nodata):
        wrong.append("nodata")
    theirs = {name: repr(getattr(pixels, name)) for name in ("mean", "std", "nodata")}
    theirs["pixels"] = repr(pixels.kind)
    wrong += [
        n for n in ("mean", "std") if data[n] and not same_values(data[n], getattr(pixels, n))
    ]
    for name in wrong:
        raise UsageError(
            f"data.{name} is {data[name]!r}, and {weights.origin.get('source')!r} was given "
            f"{theirs[name]}; leave data.{name} out, and it is read from there"
        )
    return dataclasses.replace(pixels, crop=data.eval_crop or pixels.crop)

"""Windows of large TIFF files as records: a cell of a grid over the image is one.

Evaluation sees the cells as they are, so that together they are the whole image. Training draws,
for each visit, a window at a random place up to half a window away.
"""

import concurrent.futures
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mae_jax.data import kept, large, processes
from mae_jax.data.progress import Progress, say
from mae_jax.data.records import Record, Source
from mae_jax.data.subset import Subset
from mae_jax.errors import BrokenRecord, UsageError

_VERSION = 1  # of what is kept about background


class Windows(Subset):
    """A record for each window of the images of a source, in the order of rows.

    A label is that of the image, and a name the image's with the window's left and top. Windows of
    one image follow each other, so that a split of images is one of windows.

    Args:
      source: whose records' data are paths of TIFF files.
      side: of windows, in pixels; where an image is smaller, it is one.
      background: lowest and highest value of background, beside pixels without data, unsigned
        integers as a share of their range; () for no other.
      share: of a window's pixels; with more of them background it is left out.
      nodata: as of `Form`.

    Raises:
      UsageError: a file is no TIFF, or no window is left.
    """

    def __init__(
        self,
        source: Source,
        side: int,
        *,
        background: Sequence[float] = (),
        share: float = 1.0,
        nodata: str | None = None,
    ):
        records = [source[index] for index in range(len(source))]
        for record in records:
            if not record.name.lower().endswith(large.SUFFIXES):
                raise UsageError(
                    f"data.window {side} is of TIFF files, and {record.name!r} is none; "
                    "gdal_translate -co TILED=YES makes one of it"
                )
        self._paths = [record.data for record in records]
        rule = _Rule(side, tuple(background), share, nodata)
        progress = Progress(len(records), what="files", silent=True)
        with concurrent.futures.ThreadPoolExecutor(processes.cores()) as pool:
            found = []
            for boxes in pool.map(rule.windows, self._paths, [r.name for r in records]):
                found.append(boxes)
                progress.did(1)
        counts = [len(boxes.kept) for boxes in found]
        self._boxes = np.array([box for boxes in found for box in boxes.kept], np.int32)
        self._sizes = [boxes.size for boxes in found]
        self._states = [large.state(path) for path in self._paths]
        super().__init__(source, np.repeat(np.arange(len(records)), counts))
        self.noun = "window"
        everything = sum(boxes.total for boxes in found)
        if not len(self):
            raise UsageError(
                f"all {everything} windows are background by more than data.background_share "
                f"{share}; a larger one keeps some"
            )
        if len(self) < everything:
            say(f"{everything - len(self)} of {everything} windows are background, and left out")
        untiled = next((boxes.untiled for boxes in found if boxes.untiled), "")
        if untiled:
            say(
                f"{untiled} is not tiled, so that a window costs its rows; gdal_translate -co "
                "TILED=YES makes it faster"
            )

    def __getitem__(self, index: int) -> Record:
        at = int(self._indices[index])
        record = self._source[at]
        window = large.Window(
            self._paths[at],
            large.Box(*map(int, self._boxes[index])),
            self._sizes[at],
            self._states[at],
        )
        return Record(window, record.label, self.name(index))

    def name(self, index: int) -> str:
        left, top, *_ = self._boxes[index]
        return f"{super().name(index)}[{left},{top}]"

    def fingerprint(self) -> dict[str, Any]:
        return super().fingerprint() | {
            "kind": "windows",
            "records": len(self),
            "boxes": hashlib.sha256(self._boxes.astype("<i4").tobytes()).hexdigest(),
        }


@dataclasses.dataclass(frozen=True)
class _Found:
    """The windows of a file.

    Attributes:
      size: width and height of its image.
      kept: those that are not background.
      total: how many there are.
      untiled: the file's name, if it is slow to read in parts.
    """

    size: tuple[int, int]
    kept: list[large.Box]
    total: int
    untiled: str = ""


@dataclasses.dataclass(frozen=True)
class _Rule:
    """Which windows a file has; attributes as `Windows` takes them."""

    side: int
    background: tuple[float, ...]
    share: float
    nodata: str | None

    def windows(self, path: str, name: str) -> _Found:
        try:
            size = large.size(path, name)
            boxes = cells(size, self.side)
            untiled = len(boxes) > 1 and not large.tiled(path, name)
        except BrokenRecord:
            # It is one record, of which is said why it is broken when it is read.
            return _Found((self.side,) * 2, [large.Box(0, 0, self.side, self.side)], 1)
        shares = self._shares(path, boxes, name) if self.share < 1 else [0.0] * len(boxes)
        chosen = [box for box, of in zip(boxes, shares, strict=True) if of <= self.share]
        return _Found(size, chosen, len(boxes), name if untiled else "")

    def _shares(self, path, boxes, name) -> list[float]:
        """Of each window, what is background; found once, as every tile may have to be read."""
        state = {
            "version": _VERSION,
            "file": list(large.state(path)),
            "background": [list(self.background), self.nodata],
            "side": self.side,
        }
        place = os.path.realpath(path)
        shares = kept.read("background", place, state)
        if not isinstance(shares, list) or len(shares) != len(boxes):
            shares = large.background(
                path, boxes, name, values=self.background or None, nodata=self.nodata
            )
            kept.write("background", place, state, shares)
        return shares


def cells(size: tuple[int, int], side: int) -> list[large.Box]:
    """Windows that cover an image of this width and height, row by row.

    The last of a row or column ends where the image does, and so overlaps the one before.
    """
    lefts, tops = (
        [*range(0, max(length - side, 0), side), max(length - side, 0)] for length in size
    )
    return [
        large.Box(left, top, min(side, size[0]), min(side, size[1]))
        for top in tops
        for left in lefts
    ]

"""Windows a second out of one large TIFF file, and the memory that takes.

    .venv/bin/pip install rasterio tifffile && .venv/bin/python benchmarks/windows.py

One process with one thread, which makes training views of 224 x 224 (a random part of a window of
256, mirrored, resized) at random places of a tiled file of 20,000 x 20,000 pixels in colour. Beside
it the same windows cut out with tifffile alone, tile by tile, neither cropped nor resized. Medians
of some rounds, the sides in turns, of CPU time.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from mae_jax.data import loader
from mae_jax.data.folder import FolderSource
from mae_jax.data.images import open_image
from mae_jax.data.order import view_rng
from mae_jax.data.windows import Windows
from mae_jax.pixels import Pixels

WINDOW, SIDE = 256, 224


def write(path: Path, side: int, compress: str) -> None:
    """A file of tiles that are smooth with some noise, as photographs of surfaces are."""
    import tifffile

    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 256)[None, :, None]

    def tiles():
        for _ in range((-(-side // 256)) ** 2):
            yield (rng.integers(0, 16, (256, 256, 3)) + ramp).astype(np.uint8)

    kind = None if compress == "none" else compress
    tifffile.imwrite(
        path, tiles(), shape=(side, side, 3), dtype=np.uint8, tile=(256, 256),
        photometric="rgb", compression=kind, bigtiff=True,
    )  # fmt: skip


def ours(folder: Path, count: int, seed: int) -> float:
    """Seconds of CPU time that so many views take."""
    picture = loader.Picture(Pixels((SIDE, SIDE), 3, crop=1.0), (0.2, 1.0), (3 / 4, 4 / 3), True)
    source = Windows(FolderSource(str(folder), "all", unread=True), WINDOW)
    chosen = np.random.default_rng(seed).permutation(len(source))[:count]
    began = time.process_time()
    for index in chosen:
        record = source[int(index)]
        image = open_image(record.data, picture.form, record.name)
        picture.augmented(image, [view_rng(seed, 0, int(index))])
    return time.process_time() - began


def theirs(path: Path, count: int, seed: int) -> float:
    """Seconds of CPU time that tifffile takes to cut out so many windows."""
    import tifffile

    rng = np.random.default_rng(seed)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        across = -(-page.imagewidth // page.tilewidth)
        began = time.process_time()
        for left, top in rng.integers(0, page.imagewidth - WINDOW, (count, 2)):
            made = np.empty((WINDOW, WINDOW, 3), np.uint8)
            for row in range(top // page.tilelength, (top + WINDOW - 1) // page.tilelength + 1):
                for column in range(
                    left // page.tilewidth, (left + WINDOW - 1) // page.tilewidth + 1
                ):
                    number = row * across + column
                    file.filehandle.seek(page.dataoffsets[number])
                    data = file.filehandle.read(page.databytecounts[number])
                    tile = page.decode(data, number)[0][0]
                    y, x = row * page.tilelength - top, column * page.tilewidth - left
                    part = tile[max(-y, 0) : WINDOW - y, max(-x, 0) : WINDOW - x]
                    made[max(y, 0) :, max(x, 0) :][: part.shape[0], : part.shape[1]] = part
        return time.process_time() - began


def megabytes() -> float:
    """The most memory that this process had at a time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--count", type=int, default=1000, help="windows a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compress", default="none,zlib", help="of tiles")
    parser.add_argument("--dir", default=None, help="where the file is made")
    given = parser.parse_args()
    for compress in given.compress.split(","):
        with tempfile.TemporaryDirectory(dir=given.dir) as root:
            path = Path(root, "large.tif")
            if (child := os.fork()) == 0:  # so that making it is not in the memory
                write(path, given.side, compress)
                os._exit(0)
            os.waitpid(child, 0)
            size = path.stat().st_size / 1e6
            print(f"{given.side} x {given.side}, {compress}, {size:.0f} MB", flush=True)
            sides = {"views of windows": [], "tifffile, windows alone": []}
            most = 0.0
            for seed in range(given.rounds):
                sides["views of windows"].append(given.count / ours(Path(root), given.count, seed))
                most = most or megabytes()
                sides["tifffile, windows alone"].append(
                    given.count / theirs(path, given.count, seed)
                )
            for name, rates in sides.items():
                print(f"  {name}: {statistics.median(rates):.0f}/s of one core ({rates})")
            print(f"  memory before tifffile was imported: {most:.0f} MB", flush=True)


if __name__ == "__main__":
    main()

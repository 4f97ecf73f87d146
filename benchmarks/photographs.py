"""Photographs to measure input on: cut from scikit-learn's two, with a camera's noise."""

from pathlib import Path

import numpy as np
from PIL import Image

SMALL, CAMERA = (500, 375), (4000, 3000)  # width and height


def write(folder: Path, count: int, size: tuple[int, int], classes: int = 4) -> None:
    """`count` JPEG files of quality 90, in `classes` sub-folders.

    Small ones take about 0.1 MB, as ImageNet's do, and large ones 3 to 4 MB, as a camera's.
    """
    from sklearn.datasets import load_sample_images

    pictures = [Image.fromarray(array) for array in load_sample_images().images]
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 6, (size[1], size[0], 1))
    for index in range(count):
        whole = pictures[index % 2]
        width = int(whole.width * rng.uniform(0.6, 0.85))
        height = width * size[1] // size[0]
        left = int(rng.integers(0, whole.width - width + 1))
        top = int(rng.integers(0, whole.height - height + 1))
        box = (left, top, left + width, top + height)
        smooth = np.asarray(whole.resize(size, Image.Resampling.BICUBIC, box=box))
        grain = np.roll(noise, (int(rng.integers(size[1])), int(rng.integers(size[0]))), (0, 1))
        path = folder / f"class{index % classes}" / f"{index:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(path, quality=90)

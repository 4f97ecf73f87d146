"""Draws what every sampling hides of a photograph, docs/masks.png: python benchmarks/masks.py"""

from pathlib import Path

import jax
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from mae_jax.models import masking
from mae_jax.visualize import reconstruction

OUT = Path(__file__).parents[1] / "docs" / "masks.png"
GRID, PATCH, SEED = (16, 16), 10, 3
# Title, sampling, share that is hidden, patches along the side of a unit.
SHOWN = (
    ("random 75%", "random", 0.75, 1),
    ("block 50%", "block", 0.5, 1),
    ("block 75%", "block", 0.75, 1),
    ("grid 75%", "grid", 0.75, 1),
    ("random 75%, units of 2", "random", 0.75, 2),
    ("random 75%, units of 4", "random", 0.75, 4),
)


def main() -> None:
    side = GRID[0] * PATCH
    photo = Image.fromarray(load_sample_images().images[0]).crop((110, 20, 510, 420))
    image = np.asarray(photo.resize((side, side)), np.float32)[None] / 255
    columns = {}
    for title, sampling, ratio, unit in SHOWN:
        noise = masking.draw(sampling, jax.random.key(SEED), 1, GRID, unit)
        kept = masking.kept_patches(GRID[0] * GRID[1], ratio, unit**2)
        mask = np.asarray(masking.from_noise(noise, kept).mask_BN)
        columns[title] = reconstruction.hide(image, mask, (PATCH, PATCH))
    reconstruction.panel(columns, across=1, side=side).quantize(128).save(OUT, optimize=True)


if __name__ == "__main__":
    main()

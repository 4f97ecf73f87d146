"""mae-jax reconstruct."""

from pathlib import Path
from typing import Any, Unpack

from mae_jax.commands import images as images_lib
from mae_jax.commands import sources
from mae_jax.commands.verb import Flag, Verb


def reconstruct(
    source: str | Path,
    *,
    images: str | Path,
    out: str | Path,
    mask_ratio: float | None = None,
    sampling: str | None = None,
    seed: int = 0,
    **reading: Unpack[sources.Reading],
) -> dict[str, Any]:
    """Draw what a model makes of hidden patches.

    Args:
      source: of an encoder with its decoder, which knows its pixels.
      images, out, mask_ratio, sampling, seed: as of `inference.pictures.reconstruct`.
      reading: as of `commands.sources.weights_of`.

    Returns:
      Where the picture lies, and the loss on the hidden patches.

    Raises:
      As `inference.pictures.reconstruct`.
    """
    from mae_jax.inference import pictures

    return pictures.reconstruct(
        sources.weights_to_use(source, **reading),
        images,
        out,
        mask_ratio=mask_ratio,
        seed=seed,
        sampling=sampling,
    )


VERB = Verb(
    reconstruct,
    place=8,
    usage="SOURCE --images=FOLDER|FILE --out=PICTURE.png [--mask_ratio=R] [--sampling=NAME]",
    example="runs/photos --images=PHOTOS --out=panel.png --mask_ratio=0.75",
    positionals=(sources.SOURCE,),
    flags=(
        images_lib.IMAGES,
        Flag("out", "FILE.png", "the picture"),
        Flag("mask_ratio", "R", "share of the patches that is hidden; the model's own by default"),
        Flag("sampling", "random|block|grid", "or FILE.py:NAME; the model's own by default"),
        Flag("seed", "N", "draws the masks"),
        *sources.FLAGS,
    ),
)

"""mae-jax features."""

from pathlib import Path
from typing import Any, Unpack

from mae_jax.commands import images as images_lib
from mae_jax.commands import sources
from mae_jax.commands.verb import Flag, Verb


def features(
    source: str | Path,
    *,
    images: str | Path,
    out: str | Path,
    **reading: Unpack[sources.EncoderReading],
) -> dict[str, Any]:
    """Draw patch tokens as colours, and where the class token looks.

    Args:
      source: of an encoder, which knows its pixels.
      images, out: as of `inference.pictures.features`.
      reading: as of `commands.sources.weights_of`.

    Returns:
      Where the picture lies.

    Raises:
      As `inference.pictures.features`.
    """
    from mae_jax.inference import pictures

    return pictures.features(sources.weights_to_use(source, "encoder", **reading), images, out)


VERB = Verb(
    features,
    place=9,
    usage="SOURCE --images=FOLDER|FILE --out=PICTURE.png",
    example="runs/photos --images=PHOTOS --out=features.png",
    positionals=(sources.SOURCE,),
    flags=(
        images_lib.IMAGES,
        Flag("out", "FILE.png", "the picture"),
        *sources.ENCODER_FLAGS,
    ),
)

"""mae-jax predict."""

from pathlib import Path
from typing import Any, Unpack

from mae_jax.commands import images as images_lib
from mae_jax.commands import sources as sources_lib
from mae_jax.commands.verb import Flag, Verb


def predict(
    source: str | Path,
    *,
    images: str | Path,
    out: str | Path,
    top: int = 5,
    sheet: str | Path | None = None,
    **reading: Unpack[sources_lib.Reading],
) -> dict[str, Any]:
    """Name the likeliest classes of new images: a CSV table, and a sheet of pictures.

    Args:
      source: of the classifier, which knows its classes and its pixels.
      images: a folder, a prepared set or a file.
      out, top, sheet: as of `inference.predict.predict`.
      reading: as of `commands.sources.weights_of`.

    Returns:
      Where the files lie, how many images, and how many of each class.

    Raises:
      As `inference.predict.predict`.
    """
    from mae_jax.data import sources
    from mae_jax.inference import predict as predictor
    from mae_jax.weights.load import PretrainedClassifier

    classifier = PretrainedClassifier(sources_lib.weights_to_use(source, **reading))
    return predictor.predict(classifier, sources.open_images(images), out, top=top, sheet=sheet)


VERB = Verb(
    predict,
    place=6,
    usage="SOURCE --images=FOLDER|FILE --out=TABLE.csv [--top=N] [--sheet=PICTURE.png]",
    example="runs/photos-finetune --images=NEW --out=classes.csv --sheet=classes.png",
    positionals=(sources_lib.SOURCE,),
    flags=(
        images_lib.IMAGES,
        Flag("out", "FILE.csv", "name, class, probability, then the next likely ones"),
        Flag("top", "N", "how many classes a row names"),
        Flag("sheet", "FILE.png", "some of the images with their classes"),
        *sources_lib.FLAGS,
    ),
)

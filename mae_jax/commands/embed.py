"""mae-jax embed."""

from pathlib import Path
from typing import Any, Unpack

from mae_jax.commands import configs
from mae_jax.commands import images as images_lib
from mae_jax.commands import sources as sources_lib
from mae_jax.commands.verb import Flag, Verb
from mae_jax.errors import UsageError


def embed(
    source: str | Path,
    *,
    out: str | Path,
    images: str | Path | None = None,
    config: configs.Config | None = None,
    overrides: configs.Overrides = None,
    output: str = "mean",
    **reading: Unpack[sources_lib.EncoderReading],
) -> dict[str, Any]:
    """Write the features of every image; the same command again goes on.

    Args:
      source: of the encoder, which knows its pixels.
      out, output: as of `inference.embed.embed`.
      images: a folder, a prepared set or a file; or else
      config: whose `data.split` is taken, and whose crop, if it says one.
      overrides: values of config keys, as of `commands.configs.read`.
      reading: as of `commands.sources.weights_of`.

    Returns:
      Where the features lie, how many, and how fast.

    Raises:
      As `inference.embed.embed`.
    """
    from mae_jax.config.cross_checks import check_windows
    from mae_jax.data import sources
    from mae_jax.inference import embed as embedder
    from mae_jax.inference.views import pixels_for
    from mae_jax.weights.load import PretrainedEncoder

    if (images is None) == (config is None):
        raise UsageError("exactly one of --images and --config must be given")
    encoder = PretrainedEncoder(sources_lib.weights_of(source, "encoder", **reading))
    if overrides and config is None:
        raise UsageError("overrides go with a config, and none is given")
    if images is not None:
        return embedder.embed(encoder, sources.open_images(images), out, output=output)
    config = configs.read(config, overrides=overrides)
    pixels = pixels_for(encoder.weights, config)
    config.data.nodata = pixels.nodata  # by which windows tell background
    check_windows(config.data)
    return embedder.embed(
        encoder,
        sources.open_source(config.data, config.data.split),
        out,
        output=output,
        pixels=pixels,
        broken_share=config.data.broken_share,
    )


VERB = Verb(
    embed,
    place=7,
    usage="SOURCE --images=FOLDER|--config=FILE --out=FILE.npz [--output=mean|token|patches]",
    example="runs/digits --config=configs/digits.py --out=features.npz",
    positionals=(sources_lib.SOURCE,),
    config="optional",
    flags=(
        images_lib.IMAGES,
        Flag("out", "FILE", "ends in .npz or .parquet"),
        Flag(
            "output", "mean|token|patches", "mean of the patch tokens, class token, or all patches"
        ),
        *sources_lib.ENCODER_FLAGS,
    ),
)

"""mae-jax embed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from mae_jax.commands import configs, flags
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
    layers: Sequence[int] | None = None,
    dtype: str = "float32",
    whiten: str | Path | None = None,
    standardise: str | Path | None = None,
    shard: int | None = None,
    **reading: Unpack[sources_lib.EncoderReading],
) -> dict[str, Any]:
    """Write the features of every image; the same command again goes on.

    Args:
      source: of the encoder, which knows its pixels.
      out, output, layers, dtype: as of `inference.embed.embed`.
      whiten, standardise: what features go through, as of `inference.whiten.of`; at most one.
      shard: images in a file, as of `inference.shards.embed`, where one file of all would not fit
        in memory, or where several processes are to make some of the files each.
      images: a folder, a prepared set or a file; or else
      config: whose `data.split` is taken, and whose crop, if it says one.
      overrides: values of config keys, as of `commands.configs.read`.
      reading: as of `commands.sources.weights_of`.

    Returns:
      Where the features lie, how many, and how fast.

    Raises:
      As `inference.embed.embed`, `inference.shards.embed` and `inference.whiten.of`; UsageError,
      too, for several processes without `shard`.
    """
    import jax

    from mae_jax import beats, hosts, leaving
    from mae_jax.data import sources
    from mae_jax.inference import embed as embedder
    from mae_jax.inference import shards
    from mae_jax.inference import whiten as whitening
    from mae_jax.weights import read
    from mae_jax.weights.load import PretrainedEncoder

    if (images is None) == (config is None):
        raise UsageError("exactly one of --images and --config must be given")
    if hosts.several():
        if shard is None:
            raise UsageError(
                "several processes make files of features together with --shard=IMAGES"
            )
        beats.place(jax.process_index(), Path(out))
    if overrides and config is None:
        raise UsageError("overrides go with a config, and none is given")
    options: dict[str, Any] = {"output": output, "layers": layers, "dtype": dtype}
    with leaving.missed():
        # Where one finds nothing all end, before any waits for the others to read checkpoints.
        with hosts.together():
            read.check_exists(source)
            records = None if images is None else sources.open_images(images)
        encoder = PretrainedEncoder(sources_lib.weights_to_use(source, "encoder", **reading))
        with hosts.together():
            options["whitening"] = whitening.asked(whiten=whiten, standardise=standardise)
            if records is None:
                records, of_config = _of_config(config, overrides, encoder)
                options |= of_config
        if shard is not None:
            return shards.embed(encoder, records, out, shard=shard, **options)
        return embedder.embed(encoder, records, out, **options)


def _of_config(config, overrides, encoder):
    """The images that a config names, and what it says of their reading."""
    from mae_jax.config.cross_checks import check_windows
    from mae_jax.data import sources
    from mae_jax.inference.views import pixels_for

    config = configs.read(config, overrides=overrides)
    pixels = pixels_for(encoder.weights, config)
    config.data.nodata = pixels.nodata  # by which windows tell background
    check_windows(config.data)
    records = sources.open_source(config.data, config.data.split)
    return records, {"pixels": pixels, "broken_share": config.data.broken_share}


VERB = Verb(
    embed,
    place=7,
    usage="SOURCE --images=FOLDER|--config=FILE --out=FILE.npz [--output=mean|token|patches] "
    "[--layers=N,N] …\n"
    "SOURCE --images=FOLDER|--config=FILE --out=FOLDER --shard=IMAGES …",
    example="runs/digits --config=configs/digits.py --out=features.npz",
    positionals=(sources_lib.SOURCE,),
    config="optional",
    together=True,
    flags=(
        images_lib.IMAGES,
        Flag("out", "FILE", "ends in .npz or .parquet"),
        Flag(
            "output", "mean|token|patches", "mean of the patch tokens, class token, or all patches"
        ),
        flags.LAYERS,
        Flag("dtype", "float32|float16", "of what is written"),
        *flags.WHITENING,
        Flag("shard", "IMAGES", "in a file: --out is a folder of such files"),
        *sources_lib.ENCODER_FLAGS,
    ),
)

"""mae-jax similar."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from mae_jax.commands import configs
from mae_jax.commands import images as images_lib
from mae_jax.commands import sources as sources_lib
from mae_jax.commands.verb import Flag, Verb
from mae_jax.errors import UsageError


def similar(
    source: str | Path,
    *,
    out: str | Path,
    images: str | Path | None = None,
    held_out: str | Path | None = None,
    query: str | Path | None = None,
    config: configs.Config | None = None,
    overrides: configs.Overrides = None,
    k: int = 10,
    threshold: float = 0.97,
    also: Sequence[str] = ("mirrored", "cropped"),
    leaks_alone: bool = False,
    **reading: Unpack[sources_lib.EncoderReading],
) -> dict[str, Any]:
    """Find near-duplicates, leaks between splits, or the neighbours of given images.

    Args:
      source: of the encoder, which knows its pixels.
      out, k, threshold, also, leaks_alone: as of `inference.similar.similar`.
      images: a folder, a prepared set or a file; or else
      config: whose `data.split` is taken, and `data.eval_split` as the held-out images.
      held_out: others than which `images` should be: pairs between the two are leaks.
      query: an image, or a folder of them, whose neighbours among the images are wanted instead.
      overrides: values of config keys, as of `commands.configs.read`.
      reading: as of `commands.sources.weights_of`.

    Returns:
      As `inference.similar.similar`, or `inference.neighbours.neighbours`.

    Raises:
      As those.
    """
    from mae_jax.data import sources
    from mae_jax.inference import nearest, neighbours
    from mae_jax.inference import similar as finder
    from mae_jax.weights.load import PretrainedEncoder

    if (images is None) == (config is None):
        raise UsageError("exactly one of --images and --config must be given")
    if overrides and config is None:
        raise UsageError("overrides go with a config, and none is given")
    if held_out is not None and (images is None or query is not None):
        raise UsageError("--held_out goes with --images, and not with --query")
    if leaks_alone and (query is not None or (held_out is None and config is None)):
        raise UsageError(
            "--leaks_alone needs two sets: --images and --held_out, or a --config with "
            "data.eval_split"
        )
    nearest.check_installed()
    encoder = PretrainedEncoder(sources_lib.weights_to_use(source, "encoder", **reading))
    options: dict[str, Any] = {"k": k, "threshold": threshold}
    options["also"] = () if tuple(also) == ("none",) else tuple(also)
    if config is not None:
        sets, more = of_config(encoder.weights, config, overrides, leaks_alone)
        options |= more
    else:
        sets = [("images", sources.open_images(images))]
        if held_out is not None:
            sets.append(("held out", sources.open_images(held_out)))
    if query is not None:
        asked = sources.open_images(query)
        return neighbours.neighbours(encoder, sets[0][1], asked, out, **options)
    return finder.similar(encoder, sets, out, leaks_alone=leaks_alone, **options)


def of_config(weights, config, overrides=None, needs_two=False):
    """The splits of a config by name, and what else `inference.similar.similar` is told of it.

    Raises:
      UsageError: two splits are needed, and it has one; or as `data.sources.open_source`.
    """
    from mae_jax.config.cross_checks import check_windows
    from mae_jax.data import sources
    from mae_jax.inference.views import pixels_for

    config = configs.read(config, overrides=overrides)
    pixels = pixels_for(weights, config)
    data = config.data
    data.nodata = pixels.nodata  # by which windows tell background
    check_windows(data)
    sets = [(data.split, sources.open_source(data, data.split))]
    if data.eval_split:
        held_out = sources.open_source(data, data.eval_split, sets[0][1].classes)
        sets.append((data.eval_split, held_out))
    elif needs_two:
        raise UsageError("leaks are between two splits, and data.eval_split is not set")
    return sets, {"pixels": pixels, "broken_share": data.broken_share}


VERB = Verb(
    similar,
    place=8,
    usage="SOURCE --images=FOLDER [--held_out=FOLDER] --out=FOLDER\n"
    "SOURCE --images=FOLDER --query=FOLDER|FILE --out=FOLDER\n"
    "SOURCE --config=FILE --out=FOLDER",
    example="runs/photos --images=PHOTOS --held_out=HELD_OUT --out=runs/similar",
    positionals=(sources_lib.SOURCE,),
    config="optional",
    flags=(
        images_lib.IMAGES,
        Flag("held_out", "FOLDER|FILE", "images that must not be among these: pairs are leaks"),
        Flag("query", "FOLDER|FILE", "images whose neighbours are wanted, instead of copies"),
        Flag("out", "FOLDER", "for table, sheet and features; the same folder again goes on"),
        Flag("k", "N", "neighbours of each image"),
        Flag("threshold", "R", "the least correlation of the pixels of two copies"),
        Flag("also", "mirrored,cropped,none", "copies that are looked for beside whole ones"),
        Flag("leaks_alone", "", "look between the two sets only"),
        *sources_lib.ENCODER_FLAGS,
    ),
)

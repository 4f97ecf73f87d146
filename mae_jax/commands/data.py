"""mae-jax data: prepare, check and statistics of sets of images."""

from pathlib import Path
from typing import Any

from mae_jax.commands import configs
from mae_jax.commands.verb import Flag, Group, Positional, Verb, text
from mae_jax.errors import BrokenRecord, UsageError


def prepare(
    folder: str | Path,
    out: str | Path,
    *,
    shrink: int | None = None,
    quality: int = 95,
    shard_mb: int = 64,
    workers: int | None = None,
    beam: str | None = None,
) -> dict[str, Any]:
    """Turn a folder of images into shards with checksums, which data.folder takes.

    Args:
      folder, out, shrink, quality, workers: as of `data.prepare.prepare`.
      shard_mb: images per shard, in MiB.
      beam: options of Apache Beam, on whose runner the work is then done.

    Returns:
      What `data.prepare.prepare` gives.

    Raises:
      UsageError: as that; or Beam is not installed.
    """
    from mae_jax.data import prepare as preparer

    runner = None
    if beam is not None:
        from mae_jax.data import beam as beam_lib

        runner = beam_lib.runner(beam)
    return preparer.prepare(
        str(folder),
        str(out),
        shrink=shrink,
        quality=quality,
        shard_megabytes=shard_mb,
        workers=workers,
        run=runner,
    )


def check(
    folder: str | Path | None = None,
    *,
    config: configs.Config | None = None,
    workers: int | None = None,
    leaks: str | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Read every record, name the broken ones, measure images per second, and look for leaks.

    Args:
      folder: of images; the config's data may stand in for it.
      config: what images are to become; without one, any kind of image will do.
      workers: processes; one per core by default.
      leaks: a SOURCE of an encoder, by whose features copies of training images are looked for
        among the config's held-out ones, `data.eval_split`.
      out: a folder for the leaks and those features, as of `commands.similar.similar`.

    Returns:
      What `data.check.check` gives, and what lies beside the images; with `leaks` also what
      `inference.similar.similar` found.

    Raises:
      UsageError: no such data, or two of them; or leaks are asked for and there is one split alone.
    """
    from mae_jax.data import check as checker

    if (leaks is None) != (out is None):
        raise UsageError(
            "--leaks and --out go together: whose features, and where leaks are to lie"
        )
    if leaks is not None and config is None:
        raise UsageError(
            "--leaks needs a --config with data.split and data.eval_split; of two folders, mae-jax "
            "similar --images=TRAIN --held_out=OTHER says it"
        )
    found = {}
    if leaks is not None:
        from mae_jax.commands.similar import similar

        found = similar(leaks, config=config, out=out, leaks_alone=True)
        found = {name: found[name] for name in ("leaks", "table", "sheet") if name in found}
    source, picture = _opened(folder, config)
    if source.left_out:
        found["not_read"] = source.left_out
    return checker.check(source, picture, workers, any_kind=config is None) | found


def stats(
    folder: str | Path | None = None,
    *,
    config: configs.Config | None = None,
    images: int = 10_000,
    workers: int | None = None,
) -> dict[str, Any]:
    """Measure mean and deviation of every channel, as data.mean and data.std take them.

    Args:
      folder: of images; the config's data may stand in for it.
      config: what images are to become; the defaults where there is none.
      images: looked at, at most.
      workers: processes; one per core by default.

    Returns:
      What `data.check.statistics` gives.

    Raises:
      UsageError: no such data, or two of them.
      BrokenRecord: not one image can be read.
    """
    from mae_jax.data import check as checker

    result = checker.statistics(*_opened(folder, config), images, workers)
    return result | {name: tuple(result[name]) for name in ("mean", "std")}


def _opened(folder, config):
    """Records, and how they become pixels."""
    from mae_jax.config import default_config, validate
    from mae_jax.data import check, loader, sources

    if folder is None and config is None:
        raise UsageError("exactly one of FOLDER and --config must be given")
    config = default_config() if config is None else configs.read(config)
    if folder is not None:
        if config.data.name or config.data.folder or config.data.mixture:
            raise UsageError("exactly one of FOLDER and a --config that names data must be given")
        config.data.folder, config.data.split = str(folder), "all"
    config = check.unstandardised(config)
    validate(config, trains=False)
    return sources.open_source(config.data, config.data.split), loader.Picture.from_config(config)


def _positive(name, most=None):
    limit = "at least 1" if most is None else f"from 1 to {most}"

    def parse(text):
        if not text.isdecimal() or not 1 <= int(text) <= (most or int(text)):
            raise UsageError(f"--{name}={text} must be a whole number {limit}")
        return int(text)

    return parse


_FOLDER = Positional("folder", "FOLDER", "of images")
_WORKERS = Flag("workers", "N", "processes; one per core by default", _positive("workers"))

VERB = Group(
    "data",
    "Prepare, check or measure sets of images.",
    place=12,
    actions=(
        Verb(
            prepare,
            group="data",
            usage="FOLDER --out=SET [--shrink=SIDE] [--workers=N] [--beam=OPTIONS]",
            example="PHOTOS --out=SET --shrink=256",
            positionals=(_FOLDER,),
            flags=(
                Flag("out", "SET", "the folder that is made"),
                Flag("shrink", "SIDE", "longest shorter side in pixels; larger images are shrunk"),
                Flag("quality", "Q", "of JPEG files that were shrunk", _positive("quality", 100)),
                Flag("shard_mb", "N", "images per shard, in MiB"),
                _WORKERS,
                Flag("beam", "OPTIONS", "of Apache Beam, such as --runner=DirectRunner"),
            ),
            computes=False,
        ),
        Verb(
            check,
            group="data",
            usage="FOLDER|--config=FILE [--workers=N] [--leaks=SOURCE --out=FOLDER]",
            example="PHOTOS",
            positionals=(_FOLDER,),
            config="default",
            flags=(
                _WORKERS,
                Flag("leaks", "SOURCE", "an encoder, by which held-out copies are looked for"),
                Flag("out", "FOLDER", "where leaks are to lie, with a sheet of pictures"),
            ),
            computes=False,
            text=lambda result: text({k: v for k, v in result.items() if k != "broken_records"}),
            exit_code=lambda result: BrokenRecord.exit_code if result["broken"] else 0,
        ),
        Verb(
            stats,
            group="data",
            usage="FOLDER|--config=FILE [--images=N] [--workers=N]",
            example="PHOTOS --config.model.channels=1",
            positionals=(_FOLDER,),
            config="default",
            flags=(Flag("images", "N", "looked at, at most", _positive("images")), _WORKERS),
            computes=False,
        ),
    ),
)

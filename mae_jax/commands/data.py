"""mae-jax data: prepare, check and statistics of sets of images."""

from pathlib import Path
from typing import Any

from mae_jax.commands import configs
from mae_jax.commands.verb import Flag, Positional, Verb, text
from mae_jax.errors import BrokenRecord, UsageError

ACTIONS = ("prepare", "check", "stats")


def data(
    action: str,
    folder: str | None = None,
    *,
    config: configs.Config | None = None,
    out: str | Path | None = None,
    shrink: int | None = None,
    quality: int = 95,
    shard_mb: int = 64,
    workers: int | None = None,
    beam: str | None = None,
    images: int = 10_000,
) -> dict[str, Any]:
    """Prepare, check or measure sets of images.

    Args:
      action: "prepare" turns a folder into shards with checksums, which data.folder takes;
        "check" reads every record, names the broken ones and measures images per second;
        "stats" measures mean and deviation of every channel, for data.mean and data.std.
      folder: of images; for "check" and "stats" the config's data may stand in for it.
      config: what images are to become; the defaults where there is none.
      out, shrink, quality, shard_mb: of "prepare"; as of `data.prepare.prepare`.
      workers: processes; one per core by default.
      beam: options of Apache Beam, on whose runner "prepare" then works.
      images: that "stats" looks at, at most.

    Returns:
      What `data.prepare.prepare`, `data.check.check` or `data.check.statistics` gives.

    Raises:
      UsageError: no such action, what it needs is not given, or as of those.
    """
    if action == "prepare":
        return _prepare(folder, out, beam, shrink, quality, shard_mb, workers)
    if action not in ACTIONS:
        raise UsageError(f"data {action!r} is unknown; known are {', '.join(ACTIONS)}")
    from mae_jax.data import check

    source, picture, given = _opened(folder, config)
    if action == "check":
        return check.check(source, picture, workers, any_kind=not given)
    result = check.statistics(source, picture, images, workers)
    return result | {name: tuple(result[name]) for name in ("mean", "std")}


def _prepare(folder, out, beam, shrink, quality, shard_mb, workers):
    from mae_jax.data import prepare

    if folder is None or out is None:
        title = "FOLDER" if folder is None else "--out"
        raise UsageError(f"{title} is missing; it is needed by mae-jax data prepare")
    runner = None
    if beam is not None:
        from mae_jax.data import beam as beam_lib

        runner = beam_lib.runner(beam)
    return prepare.prepare(
        str(folder),
        str(out),
        shrink=shrink,
        quality=quality,
        shard_megabytes=shard_mb,
        workers=workers,
        run=runner,
    )


def _opened(folder, config):
    """Records, how they become pixels, and whether anything was said of that."""
    from mae_jax.config import default_config, validate
    from mae_jax.data import check, loader, sources

    given = config is not None
    config = configs.read(config) if given else default_config()
    if folder is not None:
        if config.data.name or config.data.folder or config.data.mixture:
            raise UsageError("exactly one of FOLDER and a --config that names data must be given")
        config.data.folder, config.data.split = str(folder), "all"
    elif not given:
        raise UsageError("exactly one of FOLDER and --config must be given")
    if config.train.epochs is None and config.train.steps is None:
        config.train.epochs = 1.0  # a config is whole with a length, though nothing is trained
    config = check.unstandardised(config)
    validate(config)
    source = sources.open_source(config.data, config.data.split)
    return source, loader.Picture.from_config(config), given


def _positive(name, most=None):
    def parse(value):
        if value < 1 or (most is not None and value > most):
            limit = "at least 1" if most is None else f"from 1 to {most}"
            raise UsageError(f"--{name}={value} must be {limit}")
        return value

    return parse


VERB = Verb(
    data,
    place=12,
    usage="prepare FOLDER --out=SET [--shrink=SIDE] [--workers=N] [--beam=OPTIONS]\n"
    "check FOLDER|--config=FILE [--workers=N]\n"
    "stats FOLDER|--config=FILE [--images=N]",
    example="stats PHOTOS",
    positionals=(
        Positional("action", f"ACTION ({', '.join(ACTIONS)})", "what to do"),
        Positional("folder", "FOLDER", "of images"),
    ),
    config="optional",
    flags=(
        Flag("out", "SET", "the folder that prepare makes"),
        Flag("shrink", "SIDE", "longest shorter side in pixels; larger images are shrunk to it"),
        Flag("quality", "Q", "of JPEG files that were shrunk", _positive("quality", 100)),
        Flag("shard_mb", "N", "images per shard, in MiB"),
        Flag("workers", "N", "processes; one per core by default", _positive("workers")),
        Flag("beam", "OPTIONS", "of Apache Beam, such as --runner=DirectRunner"),
        Flag("images", "N", "that stats looks at, at most", _positive("images")),
    ),
    computes=False,
    text=lambda result: text({k: v for k, v in result.items() if k != "broken_records"}),
    exit_code=lambda result: BrokenRecord.exit_code if result.get("broken_records") else 0,
)

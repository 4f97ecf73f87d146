"""mae-jax data ACTION: prepare, check and statistics of sets of images."""

from typing import Any

from absl import flags

from mae_jax.errors import BrokenRecord, UsageError

HELP = """  mae-jax data prepare FOLDER --out=SET [--shrink=SIDE] [--workers=N] [--beam=OPTIONS]
      turn a folder into shards with checksums; data.folder=SET then trains on it. With
      --beam="--runner=..." on any of Apache Beam's runners
  mae-jax data check FOLDER|--config=FILE [--workers=N]
      read every record, name the broken ones (then exit code 3), measure images per second
  mae-jax data stats FOLDER|--config=FILE [--images=10000]
      mean and deviation of every channel, as data.mean and data.std take them"""
ACTIONS = ("prepare", "check", "stats")


def define(args: flags.FlagValues) -> None:
    """The flags of these actions."""
    for name in ("action", "folder", "out", "beam"):
        flags.DEFINE_string(name, None, name, flag_values=args)
    flags.DEFINE_integer("shrink", None, "longest shorter side, in pixels", flag_values=args)
    flags.DEFINE_integer("quality", 95, "of JPEG files that were shrunk", 1, 100, flag_values=args)
    flags.DEFINE_integer("shard_mb", 64, "images per shard, in MiB", flag_values=args)
    flags.DEFINE_integer("workers", None, "processes; one per core", 1, flag_values=args)
    flags.DEFINE_integer("images", 10_000, "images looked at", 1, flag_values=args)


def run(args: flags.FlagValues) -> dict[str, Any]:
    """What the action gives; `exit_code` where it is not 0.

    Raises:
      UsageError: no such action, or what it needs is not given.
    """
    if args.action not in ACTIONS:
        raise UsageError(f"data {args.action!r} is unknown; known are {', '.join(ACTIONS)}")
    return {"prepare": _prepare, "check": _check, "stats": _statistics}[args.action](args)


def _prepare(args):
    from mae_jax.data import prepare

    for name in ("folder", "out"):
        if args[name].value is None:
            title = name.upper() if name == "folder" else f"--{name}"
            raise UsageError(f"{title} is missing; it is needed by mae-jax data prepare")
    runner = None
    if args.beam is not None:
        from mae_jax.data import beam

        runner = beam.runner(args.beam)
    return prepare.prepare(
        args.folder,
        args.out,
        shrink=args.shrink,
        quality=args.quality,
        shard_megabytes=args.shard_mb,
        workers=args.workers,
        run=runner,
    )


def _check(args):
    from mae_jax.data import check

    source, picture = _opened(args)
    result = check.check(source, picture, args.workers, any_kind=args.config is None)
    if not args.json:
        del result["broken_records"]  # said already
    return result | ({"exit_code": BrokenRecord.exit_code} if result["broken"] else {})


def _statistics(args):
    from mae_jax.data import check

    source, picture = _opened(args)
    result = check.statistics(source, picture, args.images, args.workers)
    return result | {name: tuple(result[name]) for name in ("mean", "std")}


def _opened(args):
    from mae_jax.config import default_config, validate
    from mae_jax.data import check, loader, sources

    if (args.folder is None) == (args.config is None):
        raise UsageError("exactly one of FOLDER and --config must be given")
    config = args.config
    if config is None:
        config = default_config()
        config.data.folder, config.data.split, config.train.epochs = args.folder, "all", 1.0
    config = check.unstandardised(config)
    validate(config)
    return sources.open_source(config.data, config.data.split), loader.Picture.from_config(config)

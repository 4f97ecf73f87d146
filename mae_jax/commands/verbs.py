"""What each VERB of mae-jax does: one short function per verb, from flags to results."""

from collections.abc import Callable

from absl import flags

from mae_jax.commands import data_verbs, source_flags
from mae_jax.errors import UsageError


def pretrain(args: flags.FlagValues) -> dict:
    """Trains a masked autoencoder."""
    from mae_jax.train import loop
    from mae_jax.weights import start

    _expect_objective(args.config, "reconstruct")
    return loop.run(args.config, args.workdir, read_weights=start.read_encoder)


def finetune(args: flags.FlagValues) -> dict:
    """Trains a classifier, from a pre-trained encoder where init_from names one."""
    from mae_jax.studies import finetune as tuner

    _expect_objective(args.config, "classify")
    labels = [_count(text) for text in args.labels or []]
    blocks = [_number("blocks", text) for text in args.blocks or []]
    if args.scratch is not None and not args.baselines:
        raise UsageError("--scratch is the recipe of a baseline; add --baselines")
    if args.draws == 1 and not (args.baselines or labels or blocks):
        return tuner.run(args.config, args.workdir)
    if args.scratch is not None:
        _expect_objective(args.scratch, "classify")
    return tuner.compare(
        args.config,
        args.workdir,
        draws=args.draws,
        labels=labels,
        blocks=blocks,
        baselines=args.baselines,
        scratch=args.scratch,
    )


def probe(args: flags.FlagValues) -> dict:
    """Trains a linear probe, or compares frozen encoders."""
    from mae_jax.studies import finetune as tuner

    if args.workdir is not None:
        if args.source:
            raise UsageError(
                "--workdir trains one probe, of --config.init_from; to compare SOURCEs give --out"
            )
        _expect_objective(args.config, "probe")
        return tuner.run(args.config, args.workdir)
    if args.out is None:
        raise UsageError("--out is missing; or --workdir, to train one linear probe")
    from mae_jax.studies import probe as prober

    return prober.compare(
        args.source or [],
        args.config,
        args.out,
        methods=args.methods,
        output=args.output,
        draws=args.draws,
        heads=args.heads,
    )


def evaluate(args: flags.FlagValues) -> dict:
    """Measures a classifier on held-out images."""
    from mae_jax.inference import evaluation

    weights = source_flags.read(args, args.source)
    if not args.robustness:
        if args.root is not None:
            raise UsageError(f"--root={args.root} goes with --robustness")
        return evaluation.evaluate(weights, args.config, args.out)
    return evaluation.robustness(
        weights, args.config, args.robustness, root=args.root, out=args.out
    )


def export(args: flags.FlagValues) -> dict:
    """Writes weights for another library."""
    from mae_jax.weights import export as exporter

    wanted = dict(format=args.format, part=args.part)
    exporter.check(args.out, **wanted)
    weights = source_flags.read(args, args.source, exporter.reads(**wanted))
    return exporter.export(weights, args.out, **wanted, force=args.force, license=args.license)


def embed(args: flags.FlagValues) -> dict:
    """Writes the features of many images."""
    from mae_jax.data import sources
    from mae_jax.inference import embed as embedder
    from mae_jax.inference import views
    from mae_jax.weights import load

    if (args.images is None) == (args.config is None):
        raise UsageError("exactly one of --images and --config must be given")
    encoder = load.PretrainedEncoder(source_flags.read(args, args.source, "encoder"))
    if args.images is not None:
        return embedder.embed(encoder, sources.open_images(args.images), args.out,
                              output=args.output)  # fmt: skip
    data = args.config.data
    records = sources.open_source(data, data.split)
    return embedder.embed(
        encoder,
        records,
        args.out,
        output=args.output,
        pixels=views.pixels_for(encoder.weights, args.config),
        broken_share=data.broken_share,
    )


def reconstruct(args: flags.FlagValues) -> dict:
    """Draws reconstructions."""
    from mae_jax.inference import pictures

    return pictures.reconstruct(
        source_flags.read(args, args.source),
        args.images,
        args.out,
        mask_ratio=args.mask_ratio,
        seed=args.seed,
        sampling=args.sampling,
    )


def features(args: flags.FlagValues) -> dict:
    """Draws what the encoder sees."""
    from mae_jax.inference import pictures

    return pictures.features(source_flags.read(args, args.source, "encoder"), args.images, args.out)


def plan(args: flags.FlagValues) -> list[dict]:
    """Estimates runs on TPUs that are not there; an object per topology."""
    import dataclasses

    from mae_jax.plan import search

    found = search.run(args.config, args.topology, args.images, args.compare)
    return [dataclasses.asdict(estimate) for estimate in found]


def bench(args: flags.FlagValues) -> dict:
    """Times training on this machine."""
    from mae_jax.plan import bench as bencher
    from mae_jax.train import host_memory

    host_memory.keep()
    return bencher.bench(args.config, steps=args.steps)


def _count(text: str) -> int | str:
    if text == "all":
        return text
    number = _number("labels", text)
    if number != int(number):
        raise UsageError(f"--labels: {text!r} is not a whole number")
    return int(number)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--{name}: {text!r} is not a number") from None


def _expect_objective(cfg, objective: str) -> None:
    if cfg.train.objective != objective:
        raise UsageError(
            f"train.objective is {cfg.train.objective!r}; this verb needs {objective!r}"
        )


VERBS: dict[str, Callable[[flags.FlagValues], dict]] = {
    "pretrain": pretrain,
    "finetune": finetune,
    "probe": probe,
    "evaluate": evaluate,
    "export": export,
    "embed": embed,
    "reconstruct": reconstruct,
    "features": features,
    "plan": plan,
    "data": data_verbs.run,
    "bench": bench,
}

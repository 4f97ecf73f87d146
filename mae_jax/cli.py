"""mae-jax VERB: one short function per verb."""

import json
import re
import sys
import traceback
from collections.abc import Callable

from absl import flags, logging

from mae_jax import __version__, config, data_verbs, errors, source_flags

_USAGE = f"""mae-jax: pre-train masked autoencoders and use their encoders.

  mae-jax pretrain --config=configs/digits.py --workdir=runs/digits
      train a masked autoencoder; the same command again resumes
  mae-jax finetune --config=configs/digits_finetune.py --config.init_from=runs/digits \\
          --workdir=runs/digits-finetune [--draws=5] [--labels=10,50,all] [--blocks=0,0.5,1]
          [--baselines] [--scratch=FILE]
      train a classifier on a pre-trained encoder; over several draws of few labels, label
      counts per class and numbers of trained blocks; with --baselines beside regression on
      pixels and a network from scratch, which has its own recipe if --scratch names a config
  mae-jax probe SOURCE [SOURCE ...] --config=configs/digits_probe.py --out=FOLDER \\
          [--methods=logistic,knn,linear] [--output=token|mean] [--draws=5] [--heads=N]
      compare frozen encoders on the same labelled images: a table and a plot
  mae-jax probe --config=configs/in1k/linear.py --config.init_from=SOURCE --workdir=FOLDER
      train one linear probe
  mae-jax evaluate SOURCE --config=FILE [--out=FOLDER]
          [--robustness=imagenet_c,imagenet_a,imagenet_r,imagenet_sketch] [--root=FOLDER]
      measure a classifier on held-out images: top-1, top-5, per class, confusion, calibration;
      or on the robustness sets of ImageNet, from tfds or from folders below --root
  mae-jax export SOURCE --format=huggingface|timm|pth|npz|safetensors|onnx --out=FOLDER \\
          [--part=encoder|full] [--license=NAME] [--force]
      write weights for another library, with a card and hashes, and read them back
  mae-jax embed SOURCE --images=FOLDER|--config=FILE --out=features.npz|.parquet \\
          [--output=mean|token|patches]
      features of every image, with names and labels; the same command again goes on
  mae-jax reconstruct SOURCE --images=FOLDER|FILE --out=panel.png \\
          [--mask_ratio=R] [--seed=N] [--sampling=random|block|grid]
      draw what the model makes of hidden patches
  mae-jax features SOURCE --images=FOLDER|FILE --out=features.png
      draw patch tokens as colours, and where the class token looks
  mae-jax bench --config=FILE [--steps=20]
      time the step, the loader and both together on this machine, and say what limits it
  mae-jax plan --config=configs/in1k/l16.py --topology=v3:8x8[,v5p:4x4x4] [--compare]
      whether pre-training fits TPUs that are not there, how long it takes and what limits it
{data_verbs.HELP}

SOURCE is a work folder, a .pth, .safetensors or .npz file, or a folder of transformers', timm's
or mae-jax export's; --config.init_from takes the same. With it go
{source_flags.HELP}

Every verb takes
  --config=FILE           a Python file with get_config(), as in configs/
  --config.KEY=VALUE      any key of it, see mae-jax VERB --help
  --workdir=FOLDER        where everything of this run is kept
  --json                  print one JSON object on stdout
  --debug                 show tracebacks

On several hosts, start the same command on each, with a --workdir that all of them see.
TPU pods, GKE, SLURM and Open MPI tell each process its place; elsewhere say it:
  --coordinator=HOST:PORT of process 0, --num_processes=N, --process_id=0 to N-1
  --init_timeout=300      seconds to wait for the others before giving up

Exit codes: 0 done, 2 a mistake in the command or config, 3 too many broken images, 4 no usable
checkpoint, 5 diverged, 42 told to stop and saved, 43 a process is missing or died (start again)."""


def pretrain(args: flags.FlagValues) -> dict:
    """Trains a masked autoencoder."""
    from mae_jax.train import loop
    from mae_jax.weights import start

    _expect_objective(args.config, "reconstruct")
    return loop.run(args.config, args.workdir, read_weights=start.read_encoder)


def finetune(args: flags.FlagValues) -> dict:
    """Trains a classifier, from a pre-trained encoder where init_from names one."""
    from mae_jax import finetune as tuner

    _expect_objective(args.config, "classify")
    labels = [_count(text) for text in args.labels or []]
    blocks = [_number("blocks", text) for text in args.blocks or []]
    if args.scratch is not None and not args.baselines:
        raise errors.UsageError("--scratch is the recipe of a baseline; add --baselines")
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
    from mae_jax import finetune as tuner

    if args.workdir is not None:
        if args.source:
            raise errors.UsageError(
                "--workdir trains one probe, of --config.init_from; to compare SOURCEs give --out"
            )
        _expect_objective(args.config, "probe")
        return tuner.run(args.config, args.workdir)
    if args.out is None:
        raise errors.UsageError("--out is missing; or --workdir, to train one linear probe")
    from mae_jax import probe as prober

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
    from mae_jax import evaluation

    weights = source_flags.read(args, args.source)
    if not args.robustness:
        if args.root is not None:
            raise errors.UsageError(f"--root={args.root} goes with --robustness")
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
    from mae_jax import embed as embedder
    from mae_jax.data import sources
    from mae_jax.weights import load

    if (args.images is None) == (args.config is None):
        raise errors.UsageError("exactly one of --images and --config must be given")
    encoder = load.PretrainedEncoder(source_flags.read(args, args.source, "encoder"))
    if args.images is not None:
        return embedder.embed(encoder, sources.open_images(args.images), args.out,
                              output=args.output)  # fmt: skip
    data = args.config.data
    records = sources.open_source(data, data.split)
    return embedder.embed(encoder, records, args.out, output=args.output, eval_crop=data.eval_crop,
                          floats=data.pixels == "float32")  # fmt: skip


def reconstruct(args: flags.FlagValues) -> dict:
    """Draws reconstructions."""
    from mae_jax import pictures

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
    from mae_jax import pictures

    return pictures.features(source_flags.read(args, args.source, "encoder"), args.images, args.out)


def plan(args: flags.FlagValues) -> list[dict]:
    """Estimates runs on TPUs that are not there; an object per topology."""
    import dataclasses

    from mae_jax.plan import search
    from mae_jax.train import metrics

    found = search.run(args.config, args.topology, args.images, args.compare, metrics.say)
    return [dataclasses.asdict(estimate) for estimate in found]


def bench(args: flags.FlagValues) -> dict:
    """Times training on this machine."""
    from mae_jax import bench as bencher

    return bencher.bench(args.config, steps=args.steps)


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
# What each verb cannot do without; `source` is not a flag but stands by itself.
_NEEDED = {
    "pretrain": ("config", "workdir"),
    "finetune": ("config", "workdir"),
    "probe": ("config",),
    "evaluate": ("source", "config"),
    "export": ("source", "format", "out"),
    "embed": ("source", "out"),
    "reconstruct": ("source", "images", "out"),
    "features": ("source", "images", "out"),
    "plan": ("config", "topology"),
    "data": ("action",),
    "bench": ("config",),
}
_POSITIONAL = {"source": "SOURCE", "action": f"ACTION ({', '.join(data_verbs.ACTIONS)})"}

_RUNS = ("pretrain", "finetune", "probe")  # which keep a work folder


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    argv = sys.argv if argv is None else argv
    debug = "--debug" in argv
    try:
        return _run(argv)
    except (
        errors.UsageError,
        errors.BrokenRecord,
        errors.NoUsableCheckpoint,
        errors.Diverged,
        errors.Preempted,
        errors.WorkerDied,
    ) as error:
        if debug:
            raise
        print(f"mae-jax: {error}", file=sys.stderr)
        if isinstance(error, errors.BrokenRecord | errors.WorkerDied):
            _leave_others(error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        print("mae-jax: interrupted", file=sys.stderr)
        _leave_others(130)
        return 130
    except Exception:
        _leave_others(1, traceback.format_exc())
        raise


def _leave_others(code: int, message: str = "") -> None:
    hosts = sys.modules.get("mae_jax.hosts")  # without it no others were met
    if hosts:
        hosts.leave(code, message)


def _run(argv: list[str]) -> int:
    verb = argv[1] if len(argv) > 1 else "--help"
    if verb in ("--help", "-h", "help"):
        print(_USAGE)
        return 0
    if verb == "--version":
        print(f"mae_jax {__version__}")
        return 0
    if verb not in VERBS:
        raise errors.UsageError(f"verb {verb!r} is unknown; known are {', '.join(VERBS)}")
    if "--help" in argv or "-h" in argv:
        print(f"{_USAGE}\n\nConfig keys, with their defaults:\n{config.describe()}")
        return 0
    args = _parse(verb, [argv[0], *argv[2:]])
    logging.set_verbosity(logging.ERROR)  # of the libraries; ours is said in `metrics.say`
    if "workdir" in args and args.workdir is not None:  # a run: perhaps of several processes
        from mae_jax import hosts  # not above: it brings jax

        cluster = hosts.initialise(
            args.coordinator, args.num_processes, args.process_id, args.init_timeout
        )
        print(hosts.describe(cluster), file=sys.stderr, flush=True)
        result = VERBS[verb](args)
        if not hosts.is_first():
            return 0
    else:
        result = VERBS[verb](args)
    code = 0
    for line in result if isinstance(result, list) else [result]:
        code = line.pop("exit_code", code)
        if args.json:
            print(json.dumps(line))
    if not args.json:
        print(_readable(result))
    return code


def _parse(verb: str, argv: list[str]) -> flags.FlagValues:
    from ml_collections import config_flags

    known = {name for name, _ in config.all_keys()}
    for argument in argv[1:]:
        name = argument.lstrip("-").split("=")[0]
        if name.startswith("config.") and name.removeprefix("config.") not in known:
            raise config.unknown_key(name.removeprefix("config."))
    args = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "config file", flag_values=args, sys_argv=argv)
    flags.DEFINE_bool("json", False, "print JSON", flag_values=args)
    flags.DEFINE_bool("debug", False, "show tracebacks", flag_values=args)
    _define(verb, args)
    try:
        rest = args(argv)
        chosen = args.config
        if chosen is not None:
            chosen.to_dict()  # a file that could not be read shows only when it is used
    except flags.Error as error:
        raise errors.UsageError(str(error)) from error
    except OSError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise errors.UsageError(f"--config cannot be read: {reason}") from error
    except Exception as error:  # whatever the Python in a config file may raise
        raise _config_error(error) from error
    if verb == "probe":
        args.source = rest[1:]
        del rest[1:]
    for name in ("action", "folder") if verb == "data" else ("source",):
        if name in args and len(rest) > 1:
            args[name].value = rest.pop(1)
    if len(rest) > 1:
        raise errors.UsageError(f"{rest[1]!r} is not a flag; flags look like --workdir=FOLDER")
    for name in _NEEDED[verb]:
        if args[name].value is None:
            title = _POSITIONAL.get(name, f"--{name}")
            raise errors.UsageError(f"{title} is missing; it is needed by mae-jax {verb}")
    return args


def _define(verb: str, args: flags.FlagValues) -> None:
    from ml_collections import config_flags

    def text(name, default=None):
        flags.DEFINE_string(name, default, name, flag_values=args)

    if verb in _RUNS:
        text("workdir")
        flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0", flag_values=args)
        flags.DEFINE_integer("num_processes", None, "processes of the run", flag_values=args)
        flags.DEFINE_integer("process_id", None, "which of them this is", flag_values=args)
        flags.DEFINE_integer("init_timeout", 300, "seconds to wait for them", flag_values=args)
    if verb == "data":
        data_verbs.define(args)
    elif verb == "probe":
        flags.DEFINE_list("source", [], "SOURCEs", flag_values=args)
        text("out")
    elif verb == "plan":
        flags.DEFINE_list("topology", None, "TPU topologies", flag_values=args)
        flags.DEFINE_integer("images", None, "images to train on", flag_values=args)
        flags.DEFINE_bool("compare", False, "rank sharding and remat", flag_values=args)
    elif verb == "bench":
        flags.DEFINE_integer("steps", 20, "how many are timed", flag_values=args)
    elif verb not in _RUNS:
        text("source")
        text("out")
        source_flags.define(args, channels=verb not in ("reconstruct", "evaluate"))
    if verb in ("finetune", "probe"):
        flags.DEFINE_integer("draws", 1, "draws of the labels", flag_values=args)
    if verb == "finetune":
        flags.DEFINE_bool("baselines", False, "compare", flag_values=args)
        flags.DEFINE_list("labels", None, "labels per class", flag_values=args)
        flags.DEFINE_list("blocks", None, "trained blocks", flag_values=args)
        config_flags.DEFINE_config_file("scratch", None, "config from scratch", flag_values=args)
    if verb == "probe":
        flags.DEFINE_list("methods", ["logistic", "knn"], "probes", flag_values=args)
        text("output")
        flags.DEFINE_integer("heads", None, "attention heads of SOURCE", flag_values=args)
    if verb == "evaluate":
        flags.DEFINE_list("robustness", None, "sets", flag_values=args)
        text("root")
    if verb == "export":
        text("format")
        text("part")
        text("license")
        flags.DEFINE_bool("force", False, "take untrained weights", flag_values=args)
    if verb in ("embed", "reconstruct", "features"):
        text("images")
    if verb == "embed":
        text("output", "mean")
    if verb == "reconstruct":
        flags.DEFINE_float("mask_ratio", None, "share that is hidden", flag_values=args)
        flags.DEFINE_integer("seed", 0, "draws the masks", flag_values=args)
        text("sampling")


def _config_error(error: Exception) -> errors.UsageError:
    unknown = re.search(r"Key [\"'](\w+)[\"'] does not exist", str(error))
    if unknown:
        return config.unknown_key(unknown.group(1))
    reason = " ".join(str(error).split())
    return errors.UsageError(f"--config cannot be used: {type(error).__name__}: {reason}")


def _count(text: str) -> int | str:
    if text == "all":
        return text
    number = _number("labels", text)
    if number != int(number):
        raise errors.UsageError(f"--labels: {text!r} is not a whole number")
    return int(number)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise errors.UsageError(f"--{name}: {text!r} is not a number") from None


def _expect_objective(cfg, objective: str) -> None:
    if cfg.train.objective != objective:
        raise errors.UsageError(
            f"train.objective is {cfg.train.objective!r}; this verb needs {objective!r}"
        )


def _readable(result: dict) -> str:
    if isinstance(result, list):
        from mae_jax.plan import report
        from mae_jax.plan.estimate import Estimate

        return report.readable([Estimate(**estimate) for estimate in result])
    lines, width = [], max([12, *map(len, result)])
    for name, value in result.items():
        if name == "accuracy":
            from mae_jax import finetune as tuner

            lines.append("accuracy on held-out images\n" + tuner.table(value))
        elif name == "encoders":
            from mae_jax import probe as prober

            lines.append("accuracy on held-out images\n" + prober.markdown(value))
        elif name == "sha256":
            lines += [f"sha256       {digest}  {file}" for file, digest in value.items()]
        elif isinstance(value, dict):
            lines += [f"{key.replace('_', ' '):12s} {number:.4f}" for key, number in value.items()]
        elif value is not None:
            lines.append(f"{name:{width}s} {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

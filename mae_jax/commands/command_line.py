"""The command line: what `--help` says, the flags of every verb, and reading them."""

import re

from absl import flags

from mae_jax.commands import data_verbs, source_flags
from mae_jax.config import unknown_key
from mae_jax.config.schema import all_keys
from mae_jax.errors import UsageError

USAGE = f"""mae-jax: pre-train masked autoencoders and use their encoders.

  mae-jax pretrain --config=configs/digits.py --workdir=runs/digits
      train a masked autoencoder; the same command again resumes
  mae-jax finetune --config=configs/digits_finetune.py --config.init_from=runs/digits \\
          --workdir=runs/digits-finetune [--draws=5] [--labels=10,50,all] [--blocks=0,0.5,1]
          [--baselines] [--scratch=FILE]
      train a classifier on a pre-trained encoder; over several draws of few labels, label
      counts per class and numbers of trained blocks; with --baselines beside regression on
      pixels and a network from scratch, which has its own recipe if --scratch names a config
  mae-jax probe SOURCE [SOURCE ...] --config=configs/digits_probe.py --out=FOLDER \\
          [--methods=logistic,knn,knn_centred,linear] [--output=token|mean] [--draws=5]
          [--heads=N]
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
TPU pods, GKE, SLURM and MPI tell each process its place; elsewhere say it:
  --coordinator=HOST:PORT of process 0, --num_processes=N, --process_id=0 to N-1
  --init_timeout=300      seconds to wait for the others before giving up

Exit codes: 0 done, 2 a mistake in the command or config, 3 too many broken images, 4 no usable
checkpoint, 5 diverged, 42 told to stop and saved, 43 a process is missing or died (start again)."""

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


def parse(verb: str, argv: list[str]) -> flags.FlagValues:
    """The flags of one verb.

    Args:
      verb: one that is known.
      argv: the program and what follows the verb.

    Raises:
      UsageError: a flag or config key that is unknown or wrong, or one that is missing.
    """
    from ml_collections import config_flags

    known = {name for name, _ in all_keys()}
    for argument in argv[1:]:
        name = argument.lstrip("-").split("=")[0]
        if name.startswith("config.") and name.removeprefix("config.") not in known:
            raise unknown_key(name.removeprefix("config."))
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
        raise UsageError(str(error)) from error
    except OSError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UsageError(f"--config cannot be read: {reason}") from error
    except Exception as error:  # whatever the Python in a config file may raise
        raise _config_error(error) from error
    if verb == "probe":
        args.source = rest[1:]
        del rest[1:]
    for name in ("action", "folder") if verb == "data" else ("source",):
        if name in args and len(rest) > 1:
            args[name].value = rest.pop(1)
    if len(rest) > 1:
        raise UsageError(f"{rest[1]!r} is not a flag; flags look like --workdir=FOLDER")
    for name in _NEEDED[verb]:
        if args[name].value is None:
            title = _POSITIONAL.get(name, f"--{name}")
            raise UsageError(f"{title} is missing; it is needed by mae-jax {verb}")
    for name in ("workdir", "out"):
        if name in args and "://" in (args[name].value or ""):
            raise UsageError(
                f"--{name} {args[name].value!r} is a URL and must be a path; mount the bucket "
                "(gcsfuse, mount-s3, ...) and give where it is mounted"
            )
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


def _config_error(error: Exception) -> UsageError:
    unknown = re.search(r"Key [\"'](\w+)[\"'] does not exist", str(error))
    if unknown:
        return unknown_key(unknown.group(1))
    reason = " ".join(str(error).split())
    return UsageError(f"--config cannot be used: {type(error).__name__}: {reason}")

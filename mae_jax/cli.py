"""mae-jax VERB: one short function per verb."""

import json
import re
import sys
import traceback
from collections.abc import Callable

from absl import flags, logging

from mae_jax import __version__, config, errors

_USAGE = """mae-jax: pre-train masked autoencoders and use their encoders.

  mae-jax pretrain --config=configs/digits.py --workdir=runs/digits
      train a masked autoencoder; the same command again resumes
  mae-jax finetune --config=configs/digits_finetune.py --config.init_from=runs/digits \\
          --workdir=runs/digits-finetune [--draws=5] [--baselines]
      train a classifier on a pre-trained encoder; with --draws on several draws of few
      labels, with --baselines beside a network from scratch and regression on pixels

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

Exit codes: 0 done, 2 a mistake in the command or config, 3 a broken image, 4 no usable
checkpoint, 5 diverged, 42 told to stop and saved, 43 another process is missing (start again)."""


def pretrain(args: flags.FlagValues) -> dict:
    """Trains a masked autoencoder."""
    from mae_jax.train import loop

    _expect_objective(args.config, "reconstruct")
    return loop.run(args.config, args.workdir)


def finetune(args: flags.FlagValues) -> dict:
    """Trains a classifier, from a pre-trained encoder where init_from names one."""
    from mae_jax import few_labels
    from mae_jax.train import loop, workdir

    _expect_objective(args.config, "classify")
    if args.config.init_from is not None:
        config.adopt_architecture(args.config, workdir.read_config(args.config.init_from))
    if args.draws == 1 and not args.baselines:
        return loop.run(args.config, args.workdir)
    return few_labels.compare(args.config, args.workdir, draws=args.draws, baselines=args.baselines)


VERBS: dict[str, Callable[[flags.FlagValues], dict]] = {
    "pretrain": pretrain,
    "finetune": finetune,
}


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
    ) as error:
        if debug:
            raise
        print(f"mae-jax: {error}", file=sys.stderr)
        if isinstance(error, errors.BrokenRecord):
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
    from mae_jax import hosts  # not above: it brings jax

    cluster = hosts.initialise(
        args.coordinator, args.num_processes, args.process_id, args.init_timeout
    )
    print(hosts.describe(cluster), file=sys.stderr, flush=True)
    result = VERBS[verb](args)
    if not hosts.is_first():
        return 0
    if args.json:
        print(json.dumps(result))
    else:
        print(_readable(result))
    return 0


def _parse(verb: str, argv: list[str]) -> flags.FlagValues:
    from ml_collections import config_flags

    known = {name for name, _ in config.all_keys()}
    for argument in argv[1:]:
        name = argument.lstrip("-").split("=")[0]
        if name.startswith("config.") and name.removeprefix("config.") not in known:
            raise config.unknown_key(name.removeprefix("config."))
    args = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "config file", flag_values=args, sys_argv=argv)
    flags.DEFINE_string("workdir", None, "work folder", flag_values=args)
    flags.DEFINE_bool("json", False, "print JSON", flag_values=args)
    flags.DEFINE_bool("debug", False, "show tracebacks", flag_values=args)
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0", flag_values=args)
    flags.DEFINE_integer("num_processes", None, "processes of the run", flag_values=args)
    flags.DEFINE_integer("process_id", None, "which of them this is", flag_values=args)
    flags.DEFINE_integer("init_timeout", 300, "seconds to wait for them", flag_values=args)
    if verb == "finetune":
        flags.DEFINE_integer("draws", 1, "draws of the labels", flag_values=args)
        flags.DEFINE_bool("baselines", False, "compare", flag_values=args)
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
    if len(rest) > 1:
        raise errors.UsageError(f"{rest[1]!r} is not a flag; flags look like --workdir=FOLDER")
    for name, value in (("config", chosen), ("workdir", args.workdir)):
        if value is None:
            raise errors.UsageError(f"--{name} is missing; it is needed by mae-jax {verb}")
    return args


def _config_error(error: Exception) -> errors.UsageError:
    unknown = re.search(r"Key [\"'](\w+)[\"'] does not exist", str(error))
    if unknown:
        return config.unknown_key(unknown.group(1))
    reason = " ".join(str(error).split())
    return errors.UsageError(f"--config cannot be used: {type(error).__name__}: {reason}")


def _expect_objective(cfg, objective: str) -> None:
    if cfg.train.objective != objective:
        raise errors.UsageError(
            f"train.objective is {cfg.train.objective!r}; this verb needs {objective!r}"
        )


def _readable(result: dict) -> str:
    lines = []
    for name, value in result.items():
        if name == "accuracy":
            from mae_jax import few_labels

            lines.append("accuracy on held-out images\n" + few_labels.table(value))
        elif isinstance(value, dict):
            lines += [f"{key.replace('_', ' '):12s} {number:.4f}" for key, number in value.items()]
        elif value is not None:
            lines.append(f"{name:12s} {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

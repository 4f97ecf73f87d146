"""mae-jax VERB: runs the verb, prints its results, and turns errors into exit codes."""

import json
import sys
import traceback

from absl import logging

from mae_jax import __version__, config, errors
from mae_jax.commands.command_line import USAGE, parse
from mae_jax.commands.verbs import VERBS


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
        print(USAGE)
        return 0
    if verb == "--version":
        print(f"mae_jax {__version__}")
        return 0
    if verb not in VERBS:
        raise errors.UsageError(f"verb {verb!r} is unknown; known are {', '.join(VERBS)}")
    if "--help" in argv or "-h" in argv:
        print(f"{USAGE}\n\nConfig keys, with their defaults:\n{config.describe()}")
        return 0
    args = parse(verb, [argv[0], *argv[2:]])
    logging.set_verbosity(logging.ERROR)  # of the libraries; ours is said in data.progress
    if "workdir" in args and args.workdir is not None:  # a run: perhaps of several processes
        from mae_jax import hosts  # not above: both bring jax
        from mae_jax.train import host_memory

        cluster = hosts.initialise(
            args.coordinator, args.num_processes, args.process_id, args.init_timeout
        )
        host_memory.keep()
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


def _readable(result: dict) -> str:
    if isinstance(result, list):
        from mae_jax.plan import report
        from mae_jax.plan.estimate import Estimate

        return report.readable([Estimate(**estimate) for estimate in result])
    lines, width = [], max([12, *map(len, result)])
    for name, value in result.items():
        if name == "accuracy":
            from mae_jax.studies import finetune as tuner

            lines.append("accuracy on held-out images\n" + tuner.table(value))
        elif name == "encoders":
            from mae_jax.studies import probe as prober

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

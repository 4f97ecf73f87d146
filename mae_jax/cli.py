"""mae-jax VERB: runs the verb, prints its results, and turns errors into exit codes."""

import difflib
import json
import os
import sys
import traceback
from typing import Any

from mae_jax import __version__, beats, errors, supervisor

# What may go wrong in one process alone, so that the others would wait for it.
_OF_ONE = (
    errors.BrokenRecord,
    errors.NoSpace,
    errors.StorageFaltered,
    errors.WorkerDied,
    errors.HostMissing,
)


def command() -> int:
    """What the shell starts: `main`, and a process beside it that knows what became of it."""
    return supervisor.supervise(_work)


def _work() -> int:
    from mae_jax.commands import devices  # not above, as in `_run`

    devices.skip_absent_tpu()
    return main()


def main(argv: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    argv = sys.argv if argv is None else argv
    debug = "--debug" in argv
    try:
        return _run(argv)
    except errors.Ending as error:
        if debug:
            raise
        beats.ends(error.exit_code)
        line = f"mae-jax: {error}\n"
        if isinstance(error, _OF_ONE):
            gone = isinstance(error, errors.HostMissing)
            _leave_others(error.exit_code, "" if gone else str(error), line)
        print(line, end="", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print("mae-jax: interrupted", file=sys.stderr)
        _leave_others(130, "interrupted")
        return 130
    except Exception as error:
        _leave_others(1, f"{type(error).__name__}: {error}", traceback.format_exc())
        raise


def _leave_others(code: int, reason: str, shown: str = "") -> None:
    leaving = sys.modules.get("mae_jax.leaving")  # without it no others were met
    if leaving:
        leaving.leave(code, reason, shown)


def _run(argv: list[str]) -> int:
    # Not above: the process that supervises this one needs none of it.
    from absl import logging

    from mae_jax.commands import flags, help, verbs
    from mae_jax.commands.verb import Group

    name, known = argv[1] if len(argv) > 1 else "--help", verbs()
    if name in ("--help", "-h", "help"):
        return _print(help.of_all(known))
    if name == "--version":
        return _print(f"mae_jax {__version__}")
    if name not in known:
        near = "".join(f"; did you mean {n}?" for n in difflib.get_close_matches(name, known, 1))
        raise errors.UsageError(f"verb {name!r} is unknown; known are {', '.join(known)}{near}")
    verb, arguments = known[name], argv[2:]
    if isinstance(verb, Group):
        action, arguments = verb.chosen(arguments)
        verb = action or verb
    if "--help" in argv or "-h" in argv:
        return _print(help.of_one(verb))
    if isinstance(verb, Group):
        actions = ", ".join(verb.titles)
        raise errors.UsageError(f"ACTION ({actions}) is missing; it is needed by mae-jax {name}")
    values = flags.parse(verb, [argv[0], *arguments])
    logging.set_verbosity(logging.ERROR)  # of the libraries; ours is said in data.progress
    logging.get_absl_logger().addFilter(_is_not_raised_again)
    first = _begin(verb, values)
    arguments = {k: v for k, v in values.items() if k not in flags.NOT_ARGUMENTS}
    try:
        result = verb.function(**arguments)
    except OSError as error:
        if error.errno not in errors.NoSpace.errnos:
            raise
        what = "" if error.filename is None else f" for {str(error.filename)!r}"
        raise errors.NoSpace(f"no space is left{what}; make room, then start again") from error
    if not first:
        return 0
    if values.get("json"):
        lines = result if isinstance(result, list) else [result]
        _print("\n".join(map(json.dumps, lines)))
    else:
        _print(verb.text(result))
    return verb.exit_code(result)


def _is_not_raised_again(said: Any) -> bool:
    """False of what Orbax logs, with a traceback, of a save that fails: it raises that, too."""
    return "background save" not in str(said.msg)


def _print(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # who reads it, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _begin(verb, values: dict[str, Any]) -> bool:
    """Meets the other processes of a run, and readies this one; whether it is the first."""
    if not verb.computes:
        return True
    first = True
    if (verb.run and "workdir" in values) or verb.together:
        if verb.run:
            beats.begin(0 if values.get("debug") else values.get("step_limit"))
        from mae_jax import hosts

        cluster = hosts.initialise(
            values.get("coordinator"),
            values.get("num_processes"),
            values.get("process_id"),
            values.get("init_timeout", 300),
        )
        if verb.together and hosts.several():
            beats.begin(0)
        if verb.run or hosts.several():
            print(hosts.describe(cluster), file=sys.stderr, flush=True)
        first = hosts.is_first()
    from mae_jax.train import compilation, host_memory  # not above: they bring jax

    host_memory.keep()
    compilation.keep()
    return first


if __name__ == "__main__":
    sys.exit(command())

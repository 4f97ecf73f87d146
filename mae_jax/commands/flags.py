"""The command line of a verb: its flags, those that verbs share, and reading them."""

import re
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from mae_jax.commands.verb import Flag, Verb
from mae_jax.config import take_given_source, unknown_key
from mae_jax.config.schema import all_keys
from mae_jax.data.progress import say
from mae_jax.errors import UsageError

ALWAYS = (
    Flag("json", "", "print one JSON object on stdout", type=bool),
    Flag("debug", "", "show tracebacks", type=bool),
)
RUN = (
    Flag("workdir", "FOLDER", "where everything of this run is kept"),
    Flag("coordinator", "HOST:PORT", "of process 0, where processes are not told their place"),
    Flag("num_processes", "N", "of the run", type=int),
    Flag("process_id", "N", "which of them this is, from 0", type=int),
    Flag("init_timeout", "SECONDS", "to wait for the others before giving up [300]", type=int),
)
HOSTS = {"coordinator": None, "num_processes": None, "process_id": None, "init_timeout": 300}
NOT_ARGUMENTS = (*HOSTS, *(flag.name for flag in ALWAYS))  # of verbs' functions
_DEFAULTS = Path(__file__).parents[1] / "config" / "defaults.py"


def every_flag(verb: Verb) -> tuple[Flag, ...]:
    """Of a verb, those it shares included; not those of its config."""
    shared = (RUN if verb.run else ()) + ALWAYS
    own = {flag.name for flag in verb.flags}
    return verb.flags + tuple(flag for flag in shared if flag.name not in own)


def parse(verb: Verb, argv: list[str]) -> dict[str, Any]:
    """Arguments of a verb's function, and the values of the flags that every verb has.

    Args:
      argv: the program and what follows the verb.

    Raises:
      UsageError: a flag or config key that is unknown or wrong, or one that is missing.
    """
    given, rest = _read(verb, argv)
    values: dict[str, Any] = {}
    for positional in verb.positionals:
        if positional.many:
            values[positional.name], rest = tuple(rest), []
        elif rest:
            values[positional.name], rest = rest[0], rest[1:]
    if rest:
        raise UsageError(f"{rest[0]!r} is not a flag; flags look like --workdir=FOLDER")
    values |= {flag.name: _value(verb, flag, given) for flag in every_flag(verb)}
    for name in ("config", *verb.parameters):
        if name in given and name not in values:
            values[name] = given[name].value
    titles = {positional.name: positional.title for positional in verb.positionals}
    for name in verb.needed:
        if values.get(name) is None:
            title = titles.get(name, f"--{name}")
            raise UsageError(f"{title} is missing; it is needed by mae-jax {verb.name}")
    for name in ("workdir", "out"):
        if "://" in (values.get(name) or ""):
            raise UsageError(
                f"--{name} {values[name]!r} is a URL and must be a path; mount the bucket "
                "(gcsfuse, mount-s3, ...) and give where it is mounted"
            )
    return {name: value for name, value in values.items() if value is not None}


def _read(verb, argv):
    """absl's flags of a verb, and what is none."""
    from ml_collections import config_flags

    argv, unset = _without_unset(argv)
    names = {
        argument.lstrip("-").partition("=")[0] for argument in argv if argument.startswith("-")
    }
    keys = unset or any(name.startswith("config.") for name in names)
    if verb.config == "optional" and keys and "config" not in names:
        argv = [argv[0], f"--config={_DEFAULTS}", *argv[1:]]
    values = absl_flags.FlagValues()
    files = [("config", verb.config)] if verb.config else []
    files += [(flag.name, flag.value) for flag in verb.flags if flag.value == "CONFIG"]
    for name, _ in files:
        config_flags.DEFINE_config_file(name, None, name, flag_values=values, sys_argv=argv)
    define = {
        bool: absl_flags.DEFINE_bool,
        int: absl_flags.DEFINE_integer,
        float: absl_flags.DEFINE_float,
        tuple: absl_flags.DEFINE_list,
        str: absl_flags.DEFINE_string,
    }
    for flag in every_flag(verb):
        if flag.value != "CONFIG":
            define[verb.type(flag)](flag.name, None, flag.meaning, flag_values=values)
    try:
        rest = values(argv)[1:]
        for name, _ in files:
            if values[name].value is not None:
                values[name].value.to_dict()  # a file that could not be read shows when it is used
        for key in unset:
            section, _, last = key.rpartition(".")
            node = values["config"].value
            for part in filter(None, section.split(".")):
                node = node[part]
            node[last] = None
        if verb.config and values["config"].value is not None:
            named = {name.removeprefix("config.") for name in names} - set(unset)
            replaced = take_given_source(values["config"].value, named)
            if replaced:
                say(replaced)
    except absl_flags.Error as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UsageError(f"--config cannot be read: {reason}") from error
    except Exception as error:  # whatever the Python in a config file may raise
        raise _config_error(error) from error
    return values, rest


def _without_unset(argv):
    """The arguments without `--config.KEY=None`, and the keys that are unset in the end.

    ml_collections would take it for text, or refuse it for a number.
    """
    known, last, kept = dict(all_keys()), {}, []
    for argument in argv:
        name, _, value = argument.lstrip("-").partition("=")
        key = name.removeprefix("config.")
        if key == name or not argument.startswith("-"):
            kept.append((None, argument))
            continue
        if key not in known:
            raise unknown_key(key)
        if value == "None" and known[key].default is not None:
            raise UsageError(f"--config.{key}=None: this key must have a value")
        last[key] = value
        if value != "None":
            kept.append((key, argument))
    unset = [key for key, value in last.items() if value == "None"]
    return [argument for key, argument in kept if key not in unset], unset


def _value(verb, flag, given):
    value = given[flag.name].value
    if value is None or flag.parse is None:
        return value
    return tuple(map(flag.parse, value)) if isinstance(value, list) else flag.parse(value)


def _config_error(error: Exception) -> UsageError:
    unknown = re.search(r"Key [\"'](\w+)[\"'] does not exist", str(error))
    if unknown:
        return unknown_key(unknown.group(1))
    reason = " ".join(str(error).split())
    return UsageError(f"--config cannot be used: {type(error).__name__}: {reason}")

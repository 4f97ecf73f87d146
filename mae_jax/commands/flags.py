"""The command line of a verb: the flags that verbs share, and reading all of them."""

from typing import Any

from absl import flags as absl_flags

from mae_jax.commands import configs
from mae_jax.commands.verb import Flag, Verb
from mae_jax.config import default_config
from mae_jax.config.overrides import Overrides
from mae_jax.config.schema import all_keys
from mae_jax.errors import UsageError


def _at_least_zero(seconds: float) -> float:
    if not seconds >= 0:
        raise UsageError(f"--step_limit {seconds:g} must be at least 0 seconds")
    return seconds


def _block(text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"--layers: {text!r} is no number of a block; the first one is 1")
    return int(text)


ALWAYS = (
    Flag("json", "", "print one JSON object on stdout", type=bool),
    Flag("debug", "", "show tracebacks", type=bool),
)
WORKDIR = Flag("workdir", "FOLDER", "where everything of this run is kept")
ALLOW_CHANGE = Flag(
    "allow_change",
    "KEY,KEY,…",
    "go on with other values of these, though that makes another run; data: with other images",
)
LAYERS = Flag("layers", "N,N,…", "blocks whose outputs are wanted, from 1; else the last", _block)
WHITENING = (
    Flag(
        "whiten",
        "FILE",
        "features of training images, from embed: directions are scaled to equal variance by them; "
        "or the whitening.npz of an export",
    ),
    Flag("standardise", "FILE", "the same for every feature by itself"),
)
HOSTS = (
    Flag("coordinator", "HOST:PORT", "of process 0, where processes are not told their place"),
    Flag("num_processes", "N", "of the run", type=int),
    Flag("process_id", "N", "which of them this is, from 0", type=int),
    Flag("init_timeout", "SECONDS", "to wait for the others before giving up [300]", type=int),
)
STEP_LIMIT = Flag(
    "step_limit",
    "SECONDS",
    "that a step may take; 0 is for ever [ten times the slowest of the latest, at least 40]",
    _at_least_zero,
    type=float,
)
NOT_ARGUMENTS = tuple(flag.name for flag in (*HOSTS, STEP_LIMIT, *ALWAYS))  # of verbs' functions
TYPED = "typed"  # an argument that gets the flags of the config, for a line to start it elsewhere
_DEFINE = {
    bool: absl_flags.DEFINE_bool,
    int: absl_flags.DEFINE_integer,
    float: absl_flags.DEFINE_float,
    tuple: absl_flags.DEFINE_list,
    dict: absl_flags.DEFINE_multi_string,
    str: absl_flags.DEFINE_string,
}


def every_flag(verb: Verb) -> tuple[Flag, ...]:
    """Of a verb, those it shares included; not those of its config."""
    return verb.flags + ((WORKDIR,) if verb.run else ()) + of_hosts(verb) + ALWAYS


def of_hosts(verb: Verb) -> tuple[Flag, ...]:
    """Of a verb, those about several hosts."""
    if verb.run:
        return (*HOSTS, STEP_LIMIT)
    return HOSTS if verb.together else ()


def parse(verb: Verb, argv: list[str]) -> dict[str, Any]:
    """Arguments of a verb's function, and the values of the flags that are none.

    Args:
      argv: the program and what follows the verb.

    Raises:
      UsageError: a flag or config key that is unknown or wrong, or one that is missing.
    """
    values, rest = _read(verb, argv)
    for positional in verb.positionals:
        if positional.many:
            values[positional.name], rest = tuple(rest), []
        elif rest:
            values[positional.name], rest = rest[0], rest[1:]
    if rest:
        raise UsageError(f"{rest[0]!r} is not a flag; flags look like --workdir=FOLDER")
    titles = {positional.name: positional.title for positional in verb.positionals}
    for name in verb.needed:
        if values.get(name) is None:
            title = titles.get(name, f"--{name}")
            raise UsageError(f"{title} is missing; it is needed by mae-jax {verb.name}")
    for name in ("workdir", "out"):
        scheme, is_url, place = (values.get(name) or "").partition("://")
        if is_url:
            bucket = place.partition("/")[0] or "BUCKET"
            how = {"gs": f"gcsfuse --implicit-dirs --rename-dir-limit=1000 {bucket} FOLDER"}
            raise UsageError(
                f"--{name} {values[name]!r} is a URL and must be a path; mount the bucket "
                f"({how.get(scheme, f's3fs {bucket} FOLDER')}) and give a path in FOLDER"
            )
    return {name: value for name, value in values.items() if value is not None}


def _read(verb, argv):
    """The values of all flags, and the arguments that belong to none."""
    found, overrides = absl_flags.FlagValues(), {}
    names = ["config"] if verb.config else []
    names += [flag.name for flag in verb.flags if flag.value == "CONFIG"]
    for name in names:
        absl_flags.DEFINE_string(name, None, "a config file", flag_values=found)
        overrides[name] = Overrides(name, argv, found)
    for flag in every_flag(verb):
        if flag.name not in names:
            _DEFINE[verb.type(flag)](flag.name, None, flag.meaning, flag_values=found)
    try:
        rest = found(argv)[1:]
    except absl_flags.UnrecognizedFlagError as error:
        keys = [key for key, _ in all_keys() if key.rpartition(".")[2] == error.flagname]
        near = f"; did you mean --config.{keys[0]}?" if keys and "config" in names else ""
        raise UsageError(f"{error}{near or _elsewhere(error.flagname)}") from error
    except absl_flags.Error as error:
        raise UsageError(str(error)) from error
    values = {name: _config(verb, name, found[name].value, overrides[name]) for name in names}
    for flag in every_flag(verb):
        if flag.name not in names:
            values[flag.name] = _value(verb, flag, found[flag.name].value)
    if TYPED in verb.arguments:
        values[TYPED] = (f"--config={found['config'].value}", *overrides["config"].typed)
    return values, rest


def _elsewhere(flag):
    """Which verbs have a flag, as the end of a sentence."""
    from mae_jax import commands  # not above: it has this

    having = [
        name
        for name, verb in commands.verbs().items()
        if isinstance(verb, Verb) and any(own.name == flag for own in verb.flags)
    ]
    return f"; it is of {', '.join(having)}" if having else ""


def _config(verb, name, path, overrides):
    if path is None:
        if not overrides.values or name in verb.needed:
            return None
        if verb.config != "default":
            key = next(iter(overrides.values))
            raise UsageError(f"--{name}.{key} changes a config, and --{name}=FILE is missing")
        path = default_config()
    return configs.read(path, overrides=overrides.values)


def _value(verb, flag, value):
    if value is None or flag.parse is None:
        return value
    if verb.type(flag) is dict:
        made: dict[str, Any] = {}
        for name, parsed in map(flag.parse, value):
            if name in made:
                raise UsageError(f"--{flag.name} {name} is given twice; give all of it at once")
            made[name] = parsed
        return made
    return tuple(map(flag.parse, value)) if isinstance(value, list) else flag.parse(value)

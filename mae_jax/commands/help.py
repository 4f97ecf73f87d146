"""What `--help` says, of all verbs and of one."""

import textwrap

from mae_jax import config
from mae_jax.commands import sources
from mae_jax.commands.flags import every_flag
from mae_jax.commands.verb import Flag, Verb

_COMMON = f"""{sources.HELP}

Every verb takes
  --json                  print one JSON object on stdout
  --debug                 show tracebacks
and those that take a config
  --config=FILE           a Python file with get_config(), as in configs/
  --config.KEY=VALUE      any key of it; None unsets one. `mae-jax pretrain --help` lists them

On several hosts, start the same command on each, with a --workdir that all of them see. TPU pods,
GKE, SLURM and MPI tell each process its place; elsewhere say it: --coordinator=HOST:PORT of process
0, --num_processes=N, --process_id=0 to N-1.

`mae-jax VERB --help` is about one verb; `mae-jax completion bash|zsh` completes them in a shell.

Exit codes: 0 done, 2 a mistake in the command or config, 3 too many broken images, 4 no usable
checkpoint, 5 diverged, 42 told to stop and saved, 43 a process is missing or died (start again)."""


def of_all(verbs: dict[str, Verb]) -> str:
    """A line for each verb, and what they share."""
    width = max(map(len, verbs)) + 2
    indent = " " * (width + 2)
    lines = [
        textwrap.fill(f"  {name:{width}s}{verb.summary}", 98, subsequent_indent=indent)
        for name, verb in verbs.items()
    ]
    example = next(iter(verbs.values()))
    return "\n".join(
        [
            "mae-jax: pre-train masked autoencoders and use their encoders.",
            "",
            *lines,
            "",
            f"For example\n{_command(example, example.example)}",
            "",
            _COMMON,
        ]
    )


def of_one(verb: Verb) -> str:
    """What a verb does, how it is called, and its flags."""
    usage = "\n".join(_command(verb, line) for line in verb.usage.splitlines())
    parts = [
        f"mae-jax {verb.name}: {verb.summary}",
        usage,
        f"For example\n{_command(verb, verb.example)}",
    ]
    lines = [_line(p.title.split()[0], p.meaning) for p in verb.positionals]
    lines += [_flag(verb, flag) for flag in every_flag(verb)]
    if verb.config:
        lines.append(_line("--config=FILE", "a Python file with get_config(), as in configs/"))
        lines.append(_line("--config.KEY=VALUE", "any key of it; None unsets one"))
    parts.append("\n".join(lines))
    if verb.config == "needed" and verb.run:
        parts.append(f"Config keys, with their defaults:\n{config.describe()}")
    elif verb.config:
        parts.append("Config keys: mae-jax pretrain --help")
    return "\n\n".join(parts)


def _command(verb, line):
    words = textwrap.wrap(
        f"mae-jax {verb.name} {line}", 92, break_long_words=False, break_on_hyphens=False
    )
    return "  " + " \\\n      ".join(words)


def _flag(verb: Verb, flag: Flag) -> str:
    kind, default = verb.type(flag), verb.default(flag.name)
    switch = f"--[no]{flag.name}" if default is None else f"--{flag.name}"
    name = switch if kind is bool else f"--{flag.name}={flag.value}"
    if flag.name in verb.needed:
        return _line(name, f"{flag.meaning} (needed)")
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    known = shown not in (None, "", False)
    return _line(name, flag.meaning + (f" [{shown}]" if known else ""))


def _line(name, meaning):
    lines = textwrap.wrap(meaning, 68)
    head = f"  {name:26s}  "
    if len(head) > 30:
        lines, head = ["", *lines], head.rstrip()
    return "\n".join([(head + lines[0]).rstrip(), *(" " * 30 + line for line in lines[1:])])

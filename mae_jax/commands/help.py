"""What `--help` says: of all verbs, of one, of one action of a verb."""

import textwrap

from mae_jax import config
from mae_jax.commands import sources
from mae_jax.commands.flags import ALWAYS, WORKDIR, of_hosts
from mae_jax.commands.verb import Flag, Group, Verb

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

`mae-jax VERB --help` is about one verb; `eval "$(mae-jax completion bash)"`, or zsh, completes
them in a shell.

Exit codes: 0 done, 2 a mistake in the command or config, 3 too many broken images, 4 no usable
checkpoint, 5 diverged, 6 the disk is full (make room, then start again), 42 told to stop and saved,
43 a process is missing or died (start again)."""


def of_all(verbs: dict[str, Verb | Group]) -> str:
    """A line for each verb, and what they share."""
    first = next(verb for verb in verbs.values() if isinstance(verb, Verb))
    return "\n".join(
        [
            "mae-jax: pre-train masked autoencoders and use their encoders.",
            "",
            *_summaries({name: verb.summary for name, verb in verbs.items()}),
            "",
            f"For example\n{_command(first, first.example)}",
            "",
            _COMMON,
        ]
    )


def of_one(verb: Verb | Group) -> str:
    """What a verb does, how it is called, and its flags; of a group, what its actions do."""
    head = f"mae-jax {verb.name}: {verb.summary}"
    if isinstance(verb, Group):
        actions = dict(zip(verb.titles, verb.actions, strict=True))
        parts = [head, "\n".join(_command(action, action.usage) for action in verb.actions)]
        parts.append("\n".join(_summaries({n: action.summary for n, action in actions.items()})))
        return "\n\n".join([*parts, f"More of each: mae-jax {verb.name} {verb.titles[0]} --help"])
    parts = [
        head,
        "\n".join(_command(verb, line) for line in verb.usage.splitlines()),
        f"For example\n{_command(verb, verb.example)}",
    ]
    own = [_line(p.title, p.meaning) for p in verb.positionals]
    own += [_flag(verb, flag) for flag in verb.flags if flag not in sources.ENCODER_FLAGS]
    own += [_flag(verb, WORKDIR)] if verb.run else []
    if verb.config:
        needed = " (needed)" if "config" in verb.needed else ""
        own.append(_line("--config=FILE", f"Python with get_config(), as in configs/{needed}"))
        where = "below" if verb.keys else "see mae-jax pretrain --help"
        own.append(_line("--config.KEY=VALUE", f"any key of it, {where}; None unsets one"))
    sections = [
        ("", own),
        (
            "What SOURCE does not say, or is to be otherwise:",
            [_flag(verb, flag) for flag in verb.flags if flag in sources.ENCODER_FLAGS],
        ),
        ("On several hosts:", [_flag(verb, flag) for flag in of_hosts(verb)]),
        ("As of every verb:", [_flag(verb, flag) for flag in ALWAYS]),
    ]
    parts += ["\n".join([title, *lines]).lstrip("\n") for title, lines in sections if lines]
    if verb.keys:
        parts.append(f"Config keys, with their defaults:\n{config.describe()}")
    return "\n\n".join(parts)


def _summaries(summaries: dict[str, str]) -> list[str]:
    width = max(map(len, summaries)) + 2
    indent = " " * (width + 2)
    return [
        textwrap.fill(f"  {name:{width}s}{summary}", 98, subsequent_indent=indent)
        for name, summary in summaries.items()
    ]


def _command(verb: Verb, line: str) -> str:
    words = textwrap.wrap(
        f"mae-jax {verb.name} {line}", 92, break_long_words=False, break_on_hyphens=False
    )
    return "  " + " \\\n      ".join(words)


def _flag(verb: Verb, flag: Flag) -> str:
    default = verb.default(flag.name)
    if verb.type(flag) is not bool:
        name = f"--{flag.name}={flag.value}"
    elif flag.name in verb.arguments and default is not False:
        name = f"--[no]{flag.name}"
    else:
        name = f"--{flag.name}"
    if flag.name in verb.needed:
        return _line(name, f"{flag.meaning} (needed)")
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    known = shown not in (None, "", False)
    return _line(name, flag.meaning + (f" [{shown}]" if known else ""))


def _line(name: str, meaning: str) -> str:
    lines = textwrap.wrap(meaning, 68)
    head = f"  {name:26s}  "
    if len(head) > 30:
        lines, head = ["", *lines], head.rstrip()
    return "\n".join([(head + lines[0]).rstrip(), *(" " * 30 + line for line in lines[1:])])

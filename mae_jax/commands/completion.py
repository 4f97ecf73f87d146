"""mae-jax completion: a script that completes verbs, flags, config keys and files in a shell."""

from collections.abc import Iterator

from mae_jax.commands.verb import Group, Positional, Verb, choices
from mae_jax.errors import UsageError

SHELLS = ("bash", "zsh")
# Of both shells. A word is the verb, or the verb and its action; flags end in "=" or in nothing.
_TABLES = """\
_mae_jax_keys="{keys}"
_mae_jax_words() {{  # what may follow a verb; without one, the verbs
    case "$1" in
    "") echo "{verbs}" ;;
{words}
    esac
}}
_mae_jax_flags() {{
    case "$1" in
{flags}
    esac
}}
_mae_jax_values() {{  # of a verb's flag, where they can be counted
    case "$1 $2" in
{values}
    esac
}}
"""
_BASH = """\
_mae_jax() {
    local verb="${COMP_WORDS[1]}" word="${COMP_WORDS[COMP_CWORD]}" flag=""
    local before="${COMP_WORDS[COMP_CWORD-1]}" found=""
    (( COMP_CWORD > 2 )) && [[ -z "$(_mae_jax_flags "$verb")" ]] && verb="$verb ${COMP_WORDS[2]}"
    # Bash takes --FLAG=VALUE apart.
    if [[ "$word" == "=" ]]; then
        flag="$before" word=""
    elif [[ "$before" == "=" ]]; then
        flag="${COMP_WORDS[COMP_CWORD-2]}"
    fi
    if [[ -n "$flag" ]]; then
        found="$(_mae_jax_values "$verb" "$flag")"
    elif [[ "$word" == -* ]]; then
        found="$(_mae_jax_flags "$verb")"
    elif (( COMP_CWORD == 1 )); then
        found="$(_mae_jax_words "")"
    elif (( COMP_CWORD == 2 )); then
        found="$(_mae_jax_words "$verb")"
    fi
    # Where nothing is found, bash completes files.
    COMPREPLY=($(compgen -W "$found" -- "$word"))
    [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _mae_jax mae-jax
"""
_ZSH = """\
_mae_jax() {
    local verb="$words[2]" flag
    local -a found
    (( CURRENT > 3 )) && [[ -z "$(_mae_jax_flags "$verb")" ]] && verb="$verb $words[3]"
    if [[ "$PREFIX" == -*=* ]]; then
        flag="${PREFIX%%=*}"
        compset -P '*='
        found=(${=$(_mae_jax_values "$verb" "$flag")})
    elif [[ "$PREFIX" == -* ]]; then
        found=(${=$(_mae_jax_flags "$verb")})
    elif (( CURRENT == 2 )); then
        found=(${=$(_mae_jax_words "")})
    elif (( CURRENT == 3 )); then
        found=(${=$(_mae_jax_words "$verb")})
    fi
    if (( ! $#found )); then
        _files
        return
    fi
    compadd -S '' -- ${(M)found:#*=}
    compadd -- ${found:#*=}
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _mae_jax mae-jax
"""


def completion(shell: str) -> dict[str, str]:
    """Print a script that completes commands in a shell.

    Args:
      shell: "bash" or "zsh".

    Returns:
      The `script`.

    Raises:
      UsageError: another shell.
    """
    if shell not in SHELLS:
        raise UsageError(f"shell {shell!r} is unknown; known are {', '.join(SHELLS)}")
    return {"script": _tables() + (_BASH if shell == "bash" else _ZSH)}


def _tables() -> str:
    from mae_jax.commands import verbs
    from mae_jax.commands.flags import every_flag
    from mae_jax.config.schema import all_keys

    words, flags = [], []
    values = [(f"*' --config.{name}'", found) for name, key in all_keys() if (found := _of(key))]
    for verb in verbs().values():
        if isinstance(verb, Group):
            words.append((f'"{verb.name}"', verb.titles))
        elif verb.positionals and (found := choices(verb.positionals[0].title)):
            words.append((f'"{verb.name}"', found))
    for verb in _each(verbs().values()):
        named = every_flag(verb)
        ends = ["" if verb.type(flag) is bool else "=" for flag in named]
        options = [f"--{flag.name}{end}" for flag, end in zip(named, ends, strict=True)]
        options += ["--help"] + (["--config=", "$_mae_jax_keys"] if verb.config else [])
        flags.append((f'"{verb.name}"', options))
        values += [(f'"{verb.name} --{f.name}"', f.choices) for f in named if f.choices]
    return _TABLES.format(
        keys=" ".join(f"--config.{name}=" for name, _ in all_keys()),
        verbs=" ".join(verbs()),
        words=_cases(words),
        flags=_cases(flags),
        values=_cases(values),
    )


def _each(verbs) -> Iterator[Verb]:
    for verb in verbs:
        yield from verb.actions if isinstance(verb, Group) else (verb,)


def _of(key) -> list[str]:
    """What can be chosen from for a config key."""
    if key.type is bool:
        return ["True", "False"]
    if not key.range.startswith("one of "):
        return []
    words = key.range.removeprefix("one of ").split(", ")
    return [word for word in words if " " not in word]


def _cases(rows) -> str:
    return "\n".join(f'    {pattern}) echo "{" ".join(found)}" ;;' for pattern, found in rows)


VERB = Verb(
    completion,
    place=13,
    usage="bash|zsh",
    example="bash > ~/.local/share/bash-completion/completions/mae-jax",
    positionals=(Positional("shell", "bash|zsh", "the shell; it may also eval the script"),),
    computes=False,
    text=lambda result: result["script"].rstrip(),
)

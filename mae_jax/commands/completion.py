"""mae-jax completion: a script that completes verbs, flags and config keys in a shell."""

from mae_jax.commands.verb import Positional, Verb
from mae_jax.errors import UsageError

SHELLS = ("bash", "zsh")
_SCRIPT = """\
_mae_jax() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" line="${{COMP_LINE:0:COMP_POINT}}" options
    local current="${{line##* }}"
    if [[ "$current" == *=* ]]; then  # a file, or what else stands for it
        local value="${{current#*=}}"
        COMPREPLY=($(compgen -f -- "$value"))
        compopt -o filenames 2>/dev/null
        return
    fi
    if [[ "$COMP_CWORD" == 1 ]]; then
        COMPREPLY=($(compgen -W "{verbs}" -- "$word"))
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{cases}
    *) options="" ;;
    esac
    if [[ "$current" == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
        [[ "${{COMPREPLY[0]}}" == *= ]] && compopt -o nospace 2>/dev/null
    else
        COMPREPLY=($(compgen -f -- "$word"))
        compopt -o filenames 2>/dev/null
    fi
}}
complete -F _mae_jax mae-jax
"""
_ZSH = "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n"


def completion(shell: str) -> dict[str, str]:
    """Print a script that completes commands in a shell.

    Args:
      shell: "bash" or "zsh".

    Returns:
      The `script`.

    Raises:
      UsageError: another shell.
    """
    from mae_jax.commands import verbs
    from mae_jax.commands.flags import every_flag
    from mae_jax.config.schema import all_keys

    if shell not in SHELLS:
        raise UsageError(f"shell {shell!r} is unknown; known are {', '.join(SHELLS)}")
    keys = ["--config=", *(f"--config.{name}=" for name, _ in all_keys())]
    cases = []
    for name, verb in verbs().items():
        options = [
            f"--{flag.name}" + ("" if verb.type(flag) is bool else "=") for flag in every_flag(verb)
        ]
        options += ["--help", *(keys if verb.config else [])]
        cases.append(f'    {name}) options="{" ".join(options)}" ;;')
    script = _SCRIPT.format(verbs=" ".join(verbs()), cases="\n".join(cases))
    return {"script": script if shell == "bash" else _ZSH + script}


VERB = Verb(
    completion,
    place=13,
    usage="bash|zsh",
    example="bash > ~/.local/share/bash-completion/completions/mae-jax",
    positionals=(Positional("shell", "SHELL", "bash or zsh"),),
    computes=False,
    text=lambda result: result["script"],
)

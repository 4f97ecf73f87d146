"""What a verb of the command line is: a function that Python can call, and what is said of it."""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Flag:
    """`--NAME=VALUE`: an argument of the verb's function, with the type and default it has there.

    Attributes:
      name: of the argument.
      value: what it takes, in help; nothing for a switch.
      meaning: in a few words.
      parse: makes the argument of the text, raising UsageError; of every part where the argument
        is a sequence.
      type: where the function takes it among others, without saying more.
    """

    name: str
    value: str
    meaning: str
    parse: Callable[[str], Any] | None = None
    type: type = str


@dataclasses.dataclass(frozen=True)
class Positional:
    """An argument without a name; `many` takes all there are."""

    name: str
    title: str
    meaning: str
    many: bool = False


def text(result: dict[str, Any]) -> str:
    """A result as lines of `name value`; what is measured with four decimals."""
    lines, width = [], max([12, *map(len, result)])
    for name, value in result.items():
        if isinstance(value, dict):
            lines += [
                f"{key.replace('_', ' '):12s} "
                + (f"{number:.4f}" if isinstance(number, float) else str(number))
                for key, number in value.items()
            ]
        elif value is not None:
            lines.append(f"{name:{width}s} {value}")
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
      function: does it; its arguments have the names of positionals and flags.
      place: where it stands among the others in `mae-jax --help`.
      usage: what follows the verb's name, as a pattern.
      example: what follows it, as somebody would type it.
      flags, positionals: besides those that every verb has.
      config: whether it takes a config: "needed", "optional" or nothing. Where it is optional, keys
        may be set without a file.
      run: whether it keeps a work folder, perhaps by several processes together.
      computes: whether JAX computes for long, so that memory is worth keeping.
      text: a result as it is printed.
      exit_code: of a result.
    """

    function: Callable[..., Any]
    place: int
    usage: str
    example: str
    flags: tuple[Flag, ...] = ()
    positionals: tuple[Positional, ...] = ()
    config: str = ""
    run: bool = False
    computes: bool = True
    text: Callable[[Any], str] = text
    exit_code: Callable[[Any], int] = lambda result: 0

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return inspect.getdoc(self.function).splitlines()[0]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(self.function).parameters)

    @property
    def needed(self) -> list[str]:
        """The arguments without a default."""
        every = self.parameters.values()
        return [p.name for p in every if p.default is p.empty and p.kind is not p.VAR_KEYWORD]

    def default(self, name: str) -> Any:
        """Of an argument; None where there is none."""
        parameter = self.parameters.get(name)
        return None if parameter is None or name in self.needed else parameter.default

    def type(self, flag: Flag) -> type:
        """int, float, bool, str, or tuple for a sequence."""
        parameter = self.parameters.get(flag.name)
        if parameter is None:
            return flag.type
        kinds = [parameter.annotation]
        if isinstance(kinds[0], types.UnionType):
            kinds = list(typing.get_args(kinds[0]))
        kinds = [kind for kind in kinds if kind is not type(None)]
        if any(typing.get_origin(kind) is Sequence for kind in kinds):
            return tuple
        return next((kind for kind in (bool, int, float) if kind in kinds), str)

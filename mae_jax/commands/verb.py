"""What a verb of the command line is: a function that Python can call, and what is said of it."""

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mae_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Flag:
    """`--NAME=VALUE`: an argument of the verb's function, with the type and default it has there.

    Attributes:
      name: of the argument.
      value: what it takes, in help: FILE, N, ...; words in small letters, such as "mean|token", are
        all that can be chosen from. Nothing for a switch.
      meaning: in a few words.
      parse: makes the argument of the text, raising UsageError; of every part where the argument
        is a sequence. Where it is a mapping, the flag may be given several times, and each text
        makes a pair.
      type: of a flag that is no argument of the function.
    """

    name: str
    value: str
    meaning: str
    parse: Callable[[str], Any] | None = None
    type: type = str

    @property
    def choices(self) -> list[str]:
        """What can be chosen from; nothing where that is open."""
        return choices(self.value)


@dataclasses.dataclass(frozen=True)
class Positional:
    """An argument without a name, with a title as a flag's value; `many` takes all there are."""

    name: str
    title: str
    meaning: str
    many: bool = False


def choices(value: str) -> list[str]:
    """The words in small letters of a flag's value or a positional's title."""
    return [word for word in re.split("[|,]", value) if re.fullmatch("[a-z0-9_]+", word)]


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
      usage: what follows the verb's name, as a pattern.
      example: what follows it, as somebody would type it.
      flags, positionals: besides those that every verb has.
      place: where it stands among the others in `mae-jax --help`.
      group: the verb that it is an action of.
      config: whether it takes a config: "needed"; "optional"; "default", where keys may be set
        without a file; or nothing.
      keys: whether its help lists the config's keys.
      run: whether it keeps a work folder, perhaps by several processes together.
      together: whether several processes may do it together without one.
      computes: whether JAX computes for long, so that memory is worth keeping.
      text: a result as it is printed.
      exit_code: of a result.
    """

    function: Callable[..., Any]
    usage: str
    example: str
    flags: tuple[Flag, ...] = ()
    positionals: tuple[Positional, ...] = ()
    place: int = 0
    group: str = ""
    config: str = ""
    keys: bool = False
    run: bool = False
    together: bool = False
    computes: bool = True
    text: Callable[[Any], str] = text
    exit_code: Callable[[Any], int] = lambda result: 0

    @property
    def name(self) -> str:
        """As it is typed."""
        return f"{self.group} {self.function.__name__}".strip()

    @property
    def summary(self) -> str:
        """The first paragraph of the function's docstring."""
        return " ".join(inspect.getdoc(self.function).split("\n\n")[0].split())

    @functools.cached_property
    def arguments(self) -> dict[str, inspect.Parameter]:
        """Of the function, by name; those of a `**reading: Unpack[Reading]` one by one."""
        found = {}
        for parameter in inspect.signature(self.function).parameters.values():
            if parameter.kind is not parameter.VAR_KEYWORD:
                found[parameter.name] = parameter
                continue
            (said,) = typing.get_args(parameter.annotation)
            for name, annotation in typing.get_type_hints(said).items():
                found[name] = inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
                )
        return found

    @property
    def needed(self) -> list[str]:
        """The arguments without a default."""
        return [name for name, p in self.arguments.items() if p.default is p.empty]

    def default(self, name: str) -> Any:
        """Of an argument; None where there is none."""
        known = name in self.arguments and name not in self.needed
        return self.arguments[name].default if known else None

    def takes_several(self, name: str) -> bool:
        """Whether an argument is a sequence."""
        return name in self.arguments and any(
            typing.get_origin(kind) is Sequence for kind in self._kinds(name)
        )

    def _kinds(self, name):
        annotation = self.arguments[name].annotation
        if isinstance(annotation, types.UnionType):
            return list(typing.get_args(annotation))
        return [annotation]

    def type(self, flag: Flag) -> type:
        """int, float, bool, str, tuple for a sequence, or dict for a mapping."""
        if flag.name not in self.arguments:
            return flag.type
        if self.takes_several(flag.name):
            return tuple
        kinds = self._kinds(flag.name)
        if any(typing.get_origin(kind) is Mapping for kind in kinds):
            return dict
        if flag.parse is not None:
            return str
        return next((kind for kind in (bool, int, float) if kind in kinds), str)


@dataclasses.dataclass(frozen=True)
class Group:
    """A verb of several actions, each a verb by itself: `mae-jax data check`.

    Attributes:
      name: of all.
      summary: one line.
      actions: with this name as their group.
      place: as of a verb.
    """

    name: str
    summary: str
    actions: tuple[Verb, ...]
    place: int

    @property
    def titles(self) -> list[str]:
        """What the actions are called, without the verb."""
        return [action.function.__name__ for action in self.actions]

    def chosen(self, arguments: Sequence[str]) -> tuple["Verb | None", list[str]]:
        """The action that the first argument names, and the rest; None where none is named.

        Raises:
          UsageError: there is no such action.
        """
        rest = list(arguments)
        for at, argument in enumerate(rest):
            if argument.startswith("-"):
                continue
            for action in self.actions:
                if action.function.__name__ == argument:
                    return action, rest[:at] + rest[at + 1 :]
            known = ", ".join(self.titles)
            raise UsageError(f"{self.name} {argument!r} is unknown; known are {known}")
        return None, rest

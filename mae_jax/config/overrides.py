"""Keys of a config set by text, as on the command line: `--config.model.mask_ratio=0.6`."""

import re
from typing import Any

from absl import flags
from ml_collections import config_dict, config_flags

from mae_jax.config.key import Key
from mae_jax.config.reading import check_value, expected, unknown_key
from mae_jax.config.schema import all_keys
from mae_jax.errors import UsageError

# Text is read as ml_collections reads it.
_PARSERS = {
    bool: flags.BooleanParser(),
    int: flags.IntegerParser(),
    float: flags.FloatParser(),
    str: flags.ArgumentParser(),
    tuple: config_flags.tuple_parser.TupleParser(),
}


def parsed(name: str, key: Key, text: str, said: str) -> Any:
    """A key's value as a text gives it; whether it is in range is not looked at.

    Args:
      said: how the text was given, for the message.

    Raises:
      UsageError: it gives none.
    """
    if text == "None":
        if key.default is not None:
            raise UsageError(f"{said}: this key must have a value, {expected(key)}")
        return None
    try:
        return _PARSERS[key.type].parse(text)
    except (ValueError, TypeError):
        raise UsageError(f"{said} must be {expected(key)}") from None


def apply(config: config_dict.ConfigDict, values: dict[str, Any]) -> None:
    """Sets keys, named with dots, in a config.

    Raises:
      UsageError: the config is none that starts from `default_config()`.
    """
    for name, value in values.items():
        *sections, last = name.split(".")
        try:
            node = config
            for section in sections:
                node = node[section]
            node[last] = value
        except KeyError:
            raise UsageError(
                f"config key {name} is missing; a config starts from "
                "mae_jax.config.default_config()"
            ) from None


class Overrides:
    """The keys of one config that a command line sets, in its order.

    Args:
      flag: the name of that config's flag: `--FLAG.KEY=VALUE`.
      argv: the command line; those keys get flags of their own.
      flag_values: where they are defined.

    Attributes:
      values: of the keys, once the flags are read.
      typed: the flags that gave them, each as one word.

    Raises:
      UsageError: a key that is not in the schema; when the flags are read, a value that cannot be.
    """

    def __init__(self, flag: str, argv: list[str], flag_values: flags.FlagValues):
        self.values: dict[str, Any] = {}
        self.typed: list[str] = []
        self._flag, known = flag, dict(all_keys())
        pattern = re.compile(rf"--?(?:no)?{re.escape(flag)}\.([^=]*)(?:=|$)")
        named = (found.group(1) for found in map(pattern.match, argv) if found)
        for name in dict.fromkeys(named):
            if name not in known:
                raise unknown_key(name)
            key = _KeyFlag(self, f"{flag}.{name}", name, known[name])
            flags.DEFINE_flag(key, flag_values)

    def set(self, name: str, key: Key, text: str) -> None:
        """Sets a key; once more with one part of a tuple adds it to the parts before it."""
        said = f"--{self._flag}.{name}={text}"
        value = parsed(name, key, text, said)
        if value is not None:
            before = self.values.get(name)
            if key.type is tuple and before and not text.startswith(("(", "[")):
                value = before + value
            check_value(name, value)
        self.typed.append(said)
        # Anew at the end, as the later of two counts.
        self.values.pop(name, None)
        self.values[name] = value


class _KeyFlag(flags.Flag):
    """Hands every value it is given to the overrides."""

    def __init__(self, overrides: Overrides, flag: str, name: str, key: Key):
        super().__init__(
            flags.ArgumentParser(), flags.ArgumentSerializer(), flag, None, key.meaning,
            boolean=key.type is bool,
        )  # fmt: skip
        self._overrides, self._name, self._key = overrides, name, key

    def parse(self, argument):
        super().parse(argument)
        self._overrides.set(self._name, self._key, argument)

"""Configs as verbs take them: one that was built by hand, or the path of a config file."""

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from mae_jax.config import default_config, files, take_given, unknown_key
from mae_jax.config import overrides as keys
from mae_jax.config.reading import check_value
from mae_jax.config.schema import all_keys
from mae_jax.data.progress import say
from mae_jax.errors import UsageError

Config = config_dict.ConfigDict | str | Path
Overrides = Mapping[str, Any] | None


def read(
    config: Config, objective: str | Sequence[str] | None = None, overrides: Overrides = None
) -> Any:
    """A config to work with, a copy of what is given.

    Args:
      config: a ConfigDict, or a Python file with `get_config()`; after a colon what that is given,
        as in "configs/in1k/finetune.py:h14_448". What comes with the package is found anywhere.
      objective: that `train.objective` must have for this verb, or several of which it has one.
      overrides: values of keys by their dotted names, as in {"train.epochs": 2}.

    Raises:
      UsageError: no such file, one that gives no config, a key or value that is wrong, or another
        objective.
    """
    if isinstance(config, str | Path):
        config = _from_file(str(config))
    config = changed(config.copy_and_resolve_references(), overrides or {})
    wanted = (objective,) if isinstance(objective, str) else objective
    if wanted is not None and config.train.objective not in wanted:
        raise UsageError(
            f"train.objective is {config.train.objective!r}; this verb needs "
            + " or ".join(map(repr, wanted))
        )
    return config


def changed(config: Any, values: Mapping[str, Any]) -> Any:
    """A config with other values of keys.

    Data that they name, and a length that they give, replace the config's (`config.given`).

    Raises:
      UsageError: a key that is unknown, or a value that it cannot have.
    """
    known = dict(all_keys())
    values = {name: _plain(value) for name, value in values.items()}
    for name, value in values.items():
        if name not in known:
            raise unknown_key(name)
        check_value(name, value)
    keys.apply(config, values)
    for replaced in take_given(config, [name for name in values if values[name] is not None]):
        say(replaced)
    return config


def _plain(value):
    """As configs hold it."""
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _from_file(text):
    path, _, argument = files.found(text).partition(":")
    spec = importlib.util.spec_from_file_location(f"mae_jax_config_{Path(path).stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(*([argument] if argument else []))
    except UsageError:
        raise
    except KeyError as error:
        variants = getattr(module, "VARIANTS", ())
        if not argument or argument in variants or not variants:
            raise unusable(f"config {text!r}", error) from error
        raise UsageError(
            f"config {path!r} has no variant {argument!r}; it has {', '.join(variants)}"
        ) from None
    except Exception as error:  # whatever the Python in a config file may raise
        raise unusable(f"config {text!r}", error) from error
    return checked(f"config {text!r}", config)


def checked(name: str, config: Any) -> Any:
    """What a file's `get_config()` returned, if it is a config.

    Args:
      name: of the file, as the beginning of a sentence.

    Raises:
      UsageError: it is something else.
    """
    lacking = [key for key in default_config() if key not in config] if _is_config(config) else []
    if lacking or not _is_config(config):
        what = f"a config without {lacking[0]!r}" if lacking else type(config).__name__
        raise UsageError(
            f"{name}: its get_config() returns {what}; it must return what "
            "mae_jax.config.default_config() gives, changed as wanted"
        )
    return config


def unusable(name: str, error: Exception) -> UsageError:
    """The error for a config file that raises one."""
    unknown = re.search(r"Key [\"'](\w+)[\"'] does not exist", str(error))
    if unknown:
        return unknown_key(unknown.group(1))
    if isinstance(error, AttributeError) and "'get_config'" in str(error):
        return UsageError(f"{name} has no get_config(); it must return the config")
    reason = " ".join(str(error).split())
    return UsageError(f"{name} cannot be used: {type(error).__name__}: {reason}")


def _is_config(value):
    return isinstance(value, config_dict.ConfigDict)

"""Configs as verbs take them: one that was built by hand, or the path of a config file."""

import importlib.util
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from mae_jax.config import files
from mae_jax.errors import UsageError

Config = config_dict.ConfigDict | str | Path


def read(config: Config, objective: str | None = None) -> Any:
    """A config to work with, a copy of what is given.

    Args:
      config: a ConfigDict, or a Python file with `get_config()`; after a colon what that is given,
        as in "configs/in1k/finetune.py:h14_448". What comes with the package is found anywhere.
      objective: that `train.objective` must have for this verb.

    Raises:
      UsageError: no such file, or another objective.
    """
    if isinstance(config, str | Path):
        config = _from_file(str(config))
    config = config.copy_and_resolve_references()
    if objective is not None and config.train.objective != objective:
        raise UsageError(
            f"train.objective is {config.train.objective!r}; this verb needs {objective!r}"
        )
    return config


def _from_file(text):
    path, _, argument = files.found(text).partition(":")
    spec = importlib.util.spec_from_file_location(f"mae_jax_config_{Path(path).stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*([argument] if argument else []))

"""What is said of weights to everybody: nothing of where files lie on one machine."""

import dataclasses
import re
from typing import Any

from mae_jax.weights.described import Weights

# Absolute, below a home or above the working folder; not hf:OWNER/NAME, and no other URLs.
_LOCAL = re.compile(r"\s*(file:|~|[\\/]|[A-Za-z]:[\\/])|(.*[\\/])?\.\.([\\/]|$)")
_TEXT = ("classes", "license", "teacher_license")  # which may look like paths, and are none


def without_paths(weights: Weights) -> Weights:
    """The same weights, whose origin has the last component alone of every local path."""
    origin = {
        name: value if name in _TEXT else _shortened(value)
        for name, value in weights.origin.items()
    }
    return dataclasses.replace(weights, origin=origin, sampling=_shortened(weights.sampling))


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(of_it) for name, of_it in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(of_it) for of_it in value]
    if isinstance(value, str):
        return ",".join(map(_last, value.split(",")))  # data.folder may name several
    return value


def _last(text: str) -> str:
    if not _LOCAL.match(text):
        return text
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1]

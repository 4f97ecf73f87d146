"""Configurations: every key (`schema`), how keys fit together, reading and comparing."""

from mae_jax.config.given import take_given
from mae_jax.config.reading import (
    default_config,
    describe,
    flatten,
    nearest,
    unknown,
    unknown_key,
    validate,
    with_defaults,
)
from mae_jax.config.resuming import DATA, MAY_CHANGE, SHAPES, changes, check_allowed, differences
from mae_jax.config.schema import PRETRAINING

__all__ = [
    "DATA",
    "MAY_CHANGE",
    "PRETRAINING",
    "SHAPES",
    "changes",
    "check_allowed",
    "default_config",
    "describe",
    "differences",
    "flatten",
    "nearest",
    "take_given",
    "unknown",
    "unknown_key",
    "validate",
    "with_defaults",
]

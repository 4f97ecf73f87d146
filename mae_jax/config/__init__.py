"""Configurations: every key (`schema`), how keys fit together, reading and comparing."""

from mae_jax.config.reading import (
    default_config,
    describe,
    flatten,
    nearest,
    take_given_source,
    unknown_key,
    validate,
)
from mae_jax.config.resuming import MAY_CHANGE, changes, differences

__all__ = [
    "MAY_CHANGE",
    "changes",
    "default_config",
    "describe",
    "differences",
    "flatten",
    "nearest",
    "take_given_source",
    "unknown_key",
    "validate",
]

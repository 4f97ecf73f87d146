"""Configurations: every key (`schema`), how keys fit together, reading and comparing."""

from mae_jax.config.reading import (
    default_config,
    describe,
    differences,
    flatten,
    nearest,
    unknown_key,
    validate,
)

__all__ = [
    "default_config",
    "describe",
    "differences",
    "flatten",
    "nearest",
    "unknown_key",
    "validate",
]

"""Masked autoencoders in JAX: pre-train on many images, then use the encoder anywhere."""

import importlib

from mae_jax import api

__version__ = "0.1.0"

# Loaded on first use, so that `mae-jax --help` and data workers do not pay for importing jax.
_HOMES = {
    "MaskedAutoencoder": "mae_jax.models.mae",
    "VisionTransformer": "mae_jax.models.vit",
    "forward_mode": "mae_jax.models.fast.gradients",
    "load": "mae_jax.weights.load",
    "load_classifier": "mae_jax.weights.load",
    "load_encoder": "mae_jax.weights.load",
}

__all__ = list((*_HOMES, *api.VERBS))


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in api.VERBS:
        return api.function(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

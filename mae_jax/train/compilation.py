"""What XLA is asked for when it compiles training steps."""

import functools

import jax
import jax.numpy as jnp

# Every product by oneDNN, which is faster than the two libraries XLA's CPU compiler chooses from.
_ONEDNN = {
    "xla_cpu_use_onednn": True,
    "xla_cpu_experimental_onednn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}
# Width of a model from which that pays: no difference at 192 and 384, and slower at 64.
_WIDE = 768


def options(platform: str, width: int) -> dict[str, bool | str]:
    """Compiler options for the steps of a model so wide on devices of a platform."""
    return _ONEDNN if platform == "cpu" and width >= _WIDE and _has_onednn() else {}


@functools.cache
def _has_onednn() -> bool:
    """Whether this jaxlib takes the options: they are experimental, and not for every processor."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        x = jnp.ones((64, 64))
        try:
            jax.jit(lambda x: x @ x, compiler_options=_ONEDNN)(x)
        except jax.errors.JaxRuntimeError:
            return False
    return True

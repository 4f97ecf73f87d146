"""What XLA is asked for when it compiles training steps."""

import contextlib
import functools
import hashlib
import os
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

# Parameters are updated where they lie. Without it, XLA's CPU compiler copies all of them at the
# start of a step, because it does not look at which gradients still need them.
_IN_PLACE = {"xla_cpu_copy_insertion_use_region_analysis": True}
# Every product by oneDNN, which is faster than the two libraries XLA's CPU compiler chooses from.
_ONEDNN = {
    "xla_cpu_use_onednn": True,
    "xla_cpu_experimental_onednn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}
# Width of a model from which that pays: at 192 and 384 an AMD EPYC gains a twentieth, an Intel Xeon
# nothing; at 64 it costs a fifth and more.
_WIDE = 192


def options(platform: str, width: int) -> dict[str, bool | str]:
    """Compiler options for the steps of a model so wide on devices of a platform."""
    if platform != "cpu":
        return {}
    chosen = dict(_IN_PLACE) if _takes(**_IN_PLACE) else {}
    if width >= _WIDE:
        # `announced` says it sooner and plainly.
        warnings.filterwarnings("ignore", ".*compilation cache entry.* thunk kind: onednn")
        chosen |= _ONEDNN if _takes(**_ONEDNN) else {}
    return chosen


def announced(platform: str, width: int) -> str:
    """What to say before such a model's first step."""
    line = "the first step is compiled, in seconds or, of large models, minutes"
    if _ONEDNN.keys() <= options(platform, width).keys():
        line += "; in every start, as programs with oneDNN's products cannot be kept"
    return line


# Folders that were chosen here, and not by who started this process.
_chosen: set[str] = set()


def keep(folder: Path | None = None) -> None:
    """Keeps compiled programs in a folder, for other processes to find there, unless JAX was told
    where by its own JAX_COMPILATION_CACHE_DIR.

    JAX tells them apart by all that decides them, its own version included; programs of other kinds
    of devices lie in other folders.

    Args:
      folder: by default `mae_jax/programs` in the user's cache, if there can be one.
    """
    if jax.config.jax_compilation_cache_dir not in (None, *_chosen):
        return
    kind = jax.devices()[0].device_kind + (_processor() if jax.default_backend() == "cpu" else "")
    name = f"{jax.default_backend()}-{hashlib.sha256(kind.encode()).hexdigest()[:8]}"
    chosen = (folder or _of_user()) / name
    with contextlib.suppress(OSError):  # a home that cannot be written: nothing is kept
        chosen.mkdir(parents=True, exist_ok=True)
        _chosen.add(str(chosen))
        jax.config.update("jax_compilation_cache_dir", str(chosen))
        compilation_cache.reset_cache()  # what was compiled before settled that there is none


def keep_for_all(folder: Path) -> None:
    """Keeps programs in a folder that all processes see, where there are several and `keep`
    chose the user's cache.

    JAX has only the first process write, so that the others would never find one at home.
    """
    kept = jax.config.jax_compilation_cache_dir
    if jax.process_count() > 1 and kept in _chosen and Path(kept).parent == _of_user():
        keep(folder)


def _of_user() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "mae_jax" / "programs"


def _processor() -> str:
    """What the programs of this machine's processor depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    named = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(named)))


@functools.cache
def _takes(**group: bool | str) -> bool:
    """Whether this jaxlib takes some options: none is promised, and not for every processor."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        x = jnp.ones((64, 64))
        try:
            jax.jit(lambda x: x @ x, compiler_options=group)(x)
        except jax.errors.JaxRuntimeError:
            return False
    return True

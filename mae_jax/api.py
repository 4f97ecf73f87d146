"""Verbs as functions: `mae_jax.pretrain("configs/digits.py", "runs/digits")`.

They are those of `mae_jax.commands`, with plain values in and a `Result` out.
"""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERBS = (
    "bench",
    "diagnose",
    "embed",
    "evaluate",
    "export",
    "features",
    "finetune",
    "plan",
    "predict",
    "pretrain",
    "probe",
    "reconstruct",
    "report",
    "similar",
    "sweep",
)


class Result(dict[str, Any]):
    """What a verb measured and where things lie: a dict, whose values are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"there is no {name!r}; there are {', '.join(self)}")

    def __dir__(self):
        return [*super().__dir__(), *self]

    @property
    def pictures(self) -> dict[str, Any]:
        """Those among its values, by name: (H, W, 3) uint8 arrays, read from their files now."""
        import numpy as np
        from PIL import Image

        found = {}
        for name, value in self.items():
            if isinstance(value, str) and value.endswith(".png"):
                with Image.open(value) as picture:
                    found[name] = np.asarray(picture.convert("RGB"))
        return found


@functools.cache
def function(name: str) -> Callable[..., Any]:
    """The function of a verb. Where it takes several of something, one by itself will do."""
    if "jax" not in sys.modules:  # it reads which devices there are to be when it is imported
        importlib.import_module("mae_jax.commands.devices").skip_absent_tpu()
    verb = importlib.import_module(f"mae_jax.commands.{name}").VERB

    @functools.wraps(verb.function)
    def call(*positional, **named):
        bound = inspect.signature(verb.function).bind(*positional, **named)
        for argument, value in bound.arguments.items():
            if isinstance(value, str | Path | int | float) and verb.takes_several(argument):
                bound.arguments[argument] = (value,)
        found = verb.function(*bound.args, **bound.kwargs)
        return list(map(Result, found)) if isinstance(found, list) else Result(found)

    return call

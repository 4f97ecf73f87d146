"""The verbs of the command line, one file each; a new file here is a new verb.

Of each: the function that Python can call, its flags, its help, and how its result reads.
"""

import functools
import importlib
import pkgutil

from mae_jax.commands.verb import Group, Verb


@functools.cache
def verbs() -> dict[str, Verb | Group]:
    """Every verb by its name, in the order of `mae-jax --help`."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
    )
    found = [module.VERB for module in modules if hasattr(module, "VERB")]
    return {verb.name: verb for verb in sorted(found, key=lambda verb: verb.place)}

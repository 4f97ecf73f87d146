"""Functions of one's own that a config names: `my_file.py:name` or `package.module:name`."""

import functools
import importlib
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mae_jax.errors import UsageError

FORM = "FILE.py:NAME or PACKAGE.MODULE:NAME"


def is_named(text: str) -> bool:
    """Whether a text has the form of a function's name."""
    return bool(re.fullmatch(r"([^:]+\.py|[A-Za-z_][\w.]*):[A-Za-z_]\w*", text))


def load(key: str, text: str) -> Callable[..., Any]:
    """The function that a config key names.

    The same one again, as long as its file is the same: what is compiled with it stays.

    Args:
      key: to name in errors.
      text: the name, in one of the two forms; a file's is relative to the working folder.

    Raises:
      UsageError: there is no such file, module or function, or it cannot be imported.
    """
    where, _, name = text.rpartition(":")
    path = Path(where).expanduser()
    file = where.endswith(".py")
    if file and not path.is_file():
        raise UsageError(f"{key} {text!r}: there is no file {where!r}, seen from {Path.cwd()}")
    try:
        if file:
            known = path.stat()
            module = _from_file(path.resolve(), known.st_mtime_ns, known.st_size)
        else:
            module = importlib.import_module(where)
    except Exception as error:  # of any kind, as it is anybody's code
        raise UsageError(
            f"{key} {text!r} cannot be imported: {type(error).__name__}: {one_line(error)}"
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        raise UsageError(f"{key} {text!r}: {where} has no function {name!r}")
    return found


@functools.lru_cache
def _from_file(path, modified, size):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split())

"""Config files by their names: those that come with the package are found from every folder."""

import difflib
from pathlib import Path

import mae_jax
from mae_jax.errors import UsageError

_NAME = "configs"  # of the folder, in a checkout and in what is typed


def found(text: str) -> str:
    """Where a config file lies.

    Args:
      text: its path; after a colon what its `get_config` is given. `configs/digits.py` and the
        others that come along are taken from the package where there is no such file here.

    Returns:
      `text` with a path that exists.

    Raises:
      UsageError: it is not Python by its name, or exists neither here nor in the package.
    """
    name, colon, argument = text.partition(":")
    path = Path(name)
    if path.suffix != ".py":
        raise UsageError(
            f"config {text!r} is not Python; it must be a file with get_config(), "
            "whose name ends in .py"
        )
    if path.is_file():
        return text
    if path.parts[:1] == (_NAME,):
        path = _come_along().parent / path
        if path.is_file():
            return f"{path}{colon}{argument}"
    raise UsageError(
        f"config {name!r} does not exist; give a Python file with get_config(), or one that comes "
        f"with mae_jax, as {_nearest(name)}"
    )


def names() -> list[str]:
    """Those that come with the package, as they are typed."""
    root = _come_along()
    return sorted(f"{_NAME}/{path.relative_to(root)}" for path in root.rglob("*.py"))


def _come_along() -> Path:
    """The folder of them: in the package where it was installed from a wheel, else beside it."""
    package = Path(mae_jax.__file__).parent
    within = package / _NAME
    return within if within.is_dir() else package.parent / _NAME


def _nearest(name: str) -> str:
    return (difflib.get_close_matches(name, names(), 1, 0.0) or ["configs/folder.py"])[0]

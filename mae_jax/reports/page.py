"""A report: what lies in a folder, as one HTML page that needs nothing else."""

import contextlib
import importlib.util
import os
import secrets
from pathlib import Path
from typing import Any

from mae_jax.errors import UsageError, printable

HOW = "pip install 'mae_jax[report]'"
_NEEDED = ("jinja2", "matplotlib")
_TEMPLATES = Path(__file__).with_name("templates")


def write(source: str | Path, out: str | Path | None = None) -> dict[str, Any]:
    """Writes the report of a run, a study, or all runs below a folder.

    The page is of what is there now; the same folder gives the same page. It holds its pictures,
    asks for nothing else, and runs no script.

    Args:
      source: a work folder, that of a study or sweep, or one with some of those below it.
      out: the page; by default `reports.html` in `source`.

    Returns:
      `report`, where the page lies, and how many `runs` and `studies` it is about.

    Raises:
      UsageError: nothing to report on, a page that cannot be written, or a missing library.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"a report needs {' and '.join(missing)}; {HOW}")
    from mae_jax.reports import find

    path = _path(source, out)
    found = find.find(source)
    text = render(found)
    fresh = path.with_name(f".{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise UsageError(f"--out {str(path)!r} cannot be written: {error.strerror}") from None
    return {"report": str(path), "runs": len(found.runs), "studies": len(found.studies)}


def render(found) -> str:
    """The page of what was found."""
    import jinja2
    from markupsafe import Markup

    from mae_jax.reports import many, one, svg, words

    if found.alone:
        (run,) = found.runs
        title, about, sections = f"Run {run.name}", words.about(run), one.sections(run)
    else:
        own = any(study.folder == found.folder for study in found.studies)
        title = f"{'Study' if own else 'Runs in'} {found.folder.name}"
        about, sections = many.sections(found)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,  # names of files and classes may hold anything
        finalize=lambda value: value if isinstance(value, Markup) else printable(str(value)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["on_page"] = svg.on_page
    style = Markup((_TEMPLATES / "style.css").read_text())
    return environment.get_template("page.html").render(
        title=title, about=about, sections=sections, style=style, folder=str(found.folder)
    )


def _path(source, out) -> Path:
    path = Path(source) / "report.html" if out is None else Path(out)
    path = Path(os.path.abspath(path.expanduser()))
    if path.suffix not in (".html", ".htm"):
        raise UsageError(f"--out {str(out)!r} must end in .html")
    if path.is_dir():
        raise UsageError(f"--out {str(out)!r} is a folder; give the name of a new file")
    return path

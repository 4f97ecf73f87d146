"""mae-jax report."""

from pathlib import Path
from typing import Any

from mae_jax.commands.verb import Flag, Positional, Verb


def report(source: str | Path, *, out: str | Path | None = None) -> dict[str, Any]:
    """Write one HTML page on a run, a study or sweep, or all runs below a folder.

    Args:
      source, out: as of `reports.page.write`.

    Returns:
      Where the page lies, and how many runs and studies it is about.

    Raises:
      UsageError: as `reports.page.write`.
    """
    from mae_jax.reports import page

    return page.write(source, out)


VERB = Verb(
    report,
    place=10,
    usage="FOLDER [--out=PAGE.html]",
    example="runs/photos --out=photos.html",
    positionals=(Positional("source", "FOLDER", "the work folder of a run, study or sweep"),),
    flags=(Flag("out", "PAGE.html", "the page; by default FOLDER/report.html"),),
    computes=False,
)

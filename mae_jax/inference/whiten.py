"""A whitening from the features of training images, or as it was kept."""

from collections.abc import Iterator
from pathlib import Path

from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.evaluation.whitening import Moments
from mae_jax.inference import embedded, shards
from mae_jax.weights import whitened


def asked(
    *, whiten: str | Path | None = None, standardise: str | Path | None = None
) -> whitened.Fitted | None:
    """What of the two was given, as of `of`; None for neither.

    Raises:
      UsageError: both were; or as `of`.
    """
    if whiten is not None and standardise is not None:
        raise UsageError("--whiten standardises too; give one of --whiten and --standardise")
    if whiten is not None:
        return of(whiten, "whiten")
    return None if standardise is None else of(standardise, "standardise")


def of(path: str | Path, kind: str) -> whitened.Fitted:
    """What `--whiten=PATH` or `--standardise=PATH` says.

    Args:
      path: features that `embed` made of training images, in a file or in shards: the map is fitted
        on them. Or a map that was kept: `whitening.npz`, or the exported folder it lies in.
      kind: "whiten" or "standardise".

    Raises:
      UsageError: there is nothing of the sort, or what was kept is of another kind; or the features
        were whitened already, or are of fewer than two images.
    """
    path = Path(path).expanduser()
    kept = path / whitened.FILE if path.is_dir() else path
    if kept.name == whitened.FILE and kept.is_file():
        fitted = whitened.read(kept)
        if fitted.kind != kind:
            raise UsageError(f"{str(kept)!r} holds what --{fitted.kind} is for, and not --{kind}")
        return fitted
    return _fit(path, kind)


def _fit(path, kind):
    said, moments, images = None, {}, 0
    for file in _files(path):
        if (said := embedded.identity(file)) is None:
            raise UsageError(
                f"--{kind}={str(path)!r} must be features that `mae-jax embed` made of training "
                f"images, a {whitened.FILE}, or an exported folder with one"
            )
        if "whitening" in said:
            raise UsageError(f"--{kind}={str(path)!r} went through a whitening already")
        rows = embedded.read(file)
        images += int((~rows.broken).sum())
        for name, features in rows.by_name().items():
            moments.setdefault(name, Moments()).take(features)
    try:
        maps = {name: each.fit(kind) for name, each in moments.items()}
    except ValueError as error:
        raise UsageError(f"--{kind}={str(path)!r}: {error}") from None
    for each in moments.values():
        note(kind, each)
    return whitened.Fitted(kind, maps, said["weights"], said["output"], images)


def note(kind: str, moments: Moments) -> None:
    """Says so where a whitening has fewer rows than features to be fitted on."""
    width, rows = moments.width, moments.count
    if kind == "whiten" and rows <= width:
        say(
            f"whitening: {rows} rows are fewer than it takes to tell {width} directions apart; "
            f"at least {width - rows + 1} of them are left at next to nothing"
        )


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise UsageError(f"{str(path)!r} does not exist")
    return iter(shards.files(path)) if path.is_dir() else iter([path])

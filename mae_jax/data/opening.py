"""Tells what lies at a path: a folder of images, a prepared set, a table, shards, a data set."""

import os

from mae_jax.config import named
from mae_jax.data import prepared
from mae_jax.data.files import Files, FolderFiles, UrlFiles, below, ends
from mae_jax.data.formats import hub, parquet, saved, table, tars
from mae_jax.errors import UsageError

_SUFFIXES = (*table.SUFFIXES, ".tar")  # of files that hold or name images


def open_files(folder: str) -> Files:
    """The images at a path or URL, or of a name on the Hugging Face hub, whatever lies there.

    A folder with images is that, whatever else lies there; without, it may hold shards.

    Raises:
      UsageError: there is nothing, or it cannot be opened; a prepared set is incomplete.
    """
    if "://" in folder:
        return _at_url(folder)
    if named.is_name(folder):
        folder = hub.downloaded(folder)
    place = os.path.expanduser(folder)
    if os.path.isfile(place):
        return _of_file(place)
    if not os.path.isdir(place):
        raise UsageError(f"data.folder {folder!r} is neither a folder nor a file")
    if prepared.is_prepared(place):
        return prepared.PreparedFiles(place)
    if os.path.isdir(os.path.join(place, prepared.PARTS)):
        raise UsageError(
            f"data.folder {folder!r} is the beginning of a prepared set; the same mae-jax data "
            "prepare again finishes it"
        )
    if saved.is_saved(place):
        return saved.SavedFiles(place)
    found = FolderFiles(place)
    if not len(found):
        for suffix, of_shards in ((".tar", tars.TarFiles), (".parquet", parquet.ParquetFiles)):
            shards = below(place, lambda name, end=suffix: ends(name, end))
            if shards:
                return of_shards(place, sorted(shards))
    return found


def is_there(folder: str) -> bool:
    """Whether something lies at a path, or may at a URL or under a name."""
    return "://" in folder or named.is_name(folder) or os.path.exists(os.path.expanduser(folder))


def roots(folder: str) -> list[str]:
    """The places that are named with commas between them; a path with a comma in it is one."""
    if os.path.exists(os.path.expanduser(folder)):
        return [folder]
    return [part.strip() for part in folder.split(",") if part.strip()] or [folder]


def holds_images(path: str) -> bool:
    """Whether a file is one that holds or names images, rather than an image itself."""
    return path.lower().endswith(_SUFFIXES)


def _of_file(place: str) -> Files:
    folder, name = os.path.split(os.path.abspath(place))
    suffix = os.path.splitext(name)[1].lower()
    if suffix == ".tar":
        return tars.TarFiles(folder, [name])
    if suffix == ".parquet" and parquet.has_images(place, table.PATHS):
        return parquet.ParquetFiles(folder, [name])
    if suffix in table.SUFFIXES:
        return table.TableFiles(place)
    raise UsageError(
        f"data.folder {place!r} is a file, and none that holds or names images; those end in "
        f"{', '.join(_SUFFIXES)}"
    )


def _at_url(url: str) -> Files:
    if url.lower().endswith(".tar"):
        folder, _, name = url.rpartition("/")
        return tars.TarFiles(folder, [name])
    found = UrlFiles(url)
    if not len(found):
        shards = sorted(name for name in found.others if ends(name, ".tar"))
        if shards:
            return tars.TarFiles(url, shards)
    return found

"""Data sets by their name on the Hugging Face hub, `hf:OWNER/NAME[@REVISION]`.

Their files are downloaded into huggingface_hub's own cache, once, and are then what lies there.
"""

import os

from mae_jax.config import named
from mae_jax.data import hub_errors
from mae_jax.data.files import SUFFIXES
from mae_jax.data.formats import table
from mae_jax.errors import UsageError

# Files that images or their labels lie in; of others there may be very many.
_OTHERS = (*table.SUFFIXES, ".tar", ".arrow", ".array_record", ".json")
_WANTED = [f"*{s}" for suffix in (*SUFFIXES, *_OTHERS) for s in (suffix, suffix.upper())]


def downloaded(name: str) -> str:
    """The folder that the files of a data set lie in.

    Raises:
      UsageError: there is no such data set, or it may not be had; or the hub does not answer.
      NoSpace: the disk is full.
    """
    asked, what = named.parse(name), f"data.folder {name!r}"
    hub = hub_errors.library(what)
    repository, revision = asked.repository, asked.commit or asked.revision
    with hub_errors.told(what, f"datasets/{repository}", revision):
        place = hub.snapshot_download(
            repository, repo_type="dataset", revision=revision, allow_patterns=_WANTED
        )
    if not os.path.isdir(place):  # which is not made for nothing
        raise UsageError(f"{what} has no images: no files of a kind that is known")
    return place

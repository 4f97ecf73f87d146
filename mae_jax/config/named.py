"""`hf:OWNER/NAME[@REVISION]`: weights, or data, by their name on the Hugging Face hub, as text.

Nothing here asks the hub; `weights.hub` and `data.formats.hub` do.
"""

import re
from pathlib import Path
from typing import NamedTuple

from mae_jax.errors import UsageError

_PREFIX = "hf:"
_PART = r"[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Name(NamedTuple):
    """What a name says.

    Attributes:
      repository: OWNER/NAME.
      revision: a branch, tag or short commit; None for the main branch, or where a whole commit
        was named instead.
      commit: which commit that is, where it is known.
    """

    repository: str
    revision: str | None = None
    commit: str | None = None

    def __str__(self) -> str:
        return _PREFIX + "@".join(part for part in self if part is not None)


def is_name(source: str | Path | None) -> bool:
    """Whether a SOURCE is such a name, and no path."""
    return source is not None and str(source).startswith(_PREFIX)


def parse(source: str | Path) -> Name:
    """What a name says; REVISION@COMMIT, as runs and cards note it, is that commit.

    Raises:
      UsageError: it is none.
    """
    text = str(source)
    repository, *revisions = text.removeprefix(_PREFIX).split("@")
    name = Name(check_repository(repository, repr(text)))
    if revisions and _COMMIT.fullmatch(revisions[-1]):
        name = name._replace(commit=revisions.pop())
    if revisions:
        name = name._replace(revision=revisions.pop())
    if not is_name(text) or revisions or (name.revision is not None and not _fits(name.revision)):
        raise UsageError(f"{text!r} must be hf:OWNER/NAME, or hf:OWNER/NAME@REVISION")
    return name


def check_repository(repository: str, said: str) -> str:
    """OWNER/NAME as it is.

    Args:
      said: what the user typed, to begin the error with.

    Raises:
      UsageError: the hub has no such names.
    """
    if not _REPOSITORY.fullmatch(repository) or re.search(r"--|\.\.|\.git$", repository):
        raise UsageError(
            f"{said}: {repository!r} must be OWNER/NAME, of letters, digits and single -, _ and ."
        )
    return repository


def _fits(revision: str) -> bool:
    return re.fullmatch(r"[\w./+-]+", revision) is not None and ".." not in revision


def same(asked: str | Path | None, noted: str | Path | None) -> bool:
    """Whether what a run noted is what is asked for now.

    A branch may have moved on since: the same name is the same source, and what was noted stays.
    """
    if not (is_name(asked) and is_name(noted)):
        return False
    asked, noted = parse(asked), parse(noted)
    if asked.commit is not None:
        return asked.repository == noted.repository and asked.commit == noted.commit
    return asked == noted._replace(commit=None)

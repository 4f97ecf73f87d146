"""huggingface_hub, imported on first use, and what it raises as one sentence."""

import contextlib
from collections.abc import Iterator
from types import ModuleType

from mae_jax import storage
from mae_jax.errors import NoSpace, UsageError

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def library(what: str) -> ModuleType:
    """huggingface_hub.

    Args:
      what: needs it, as the beginning of a sentence.

    Raises:
      UsageError: it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError:
        raise UsageError(f"{what} needs huggingface_hub; pip install 'mae_jax[hub]'") from None
    return huggingface_hub


@contextlib.contextmanager
def told(what: str, repository: str, revision: str | None = None) -> Iterator[None]:
    """Says in one sentence what the library raises while something is done.

    Args:
      what: is asked for, as the user said it, to begin the sentence with.
      repository: OWNER/NAME.
      revision: of it.

    Raises:
      UsageError: there is no such thing, or it may not be had; or the hub does not answer.
      NoSpace: the disk is full.
    """
    hub = library(what)
    known, page = hub.errors, f"{hub.constants.ENDPOINT}/{repository}"
    try:
        yield
    except UsageError:
        raise
    except known.GatedRepoError:
        raise UsageError(f"{what} is gated: ask for access at {page}, then {LOGIN}") from None
    except known.RepositoryNotFoundError:
        raise UsageError(
            f"{what} is not at {page}, or is private: look at its spelling, or {LOGIN}, with a "
            "token that may read it"
        ) from None
    except known.RevisionNotFoundError:
        raise UsageError(
            f"{what} has no revision {revision!r}; give a branch, a tag or a commit of {page}"
        ) from None
    except known.LocalEntryNotFoundError as error:
        raise UsageError(_absent(what, hub, error)) from None
    except known.LocalTokenNotFoundError:
        raise UsageError(f"{what} needs a token of {hub.constants.ENDPOINT}; {LOGIN}") from None
    except known.HfHubHTTPError as error:
        raise UsageError(f"{what}: {_refused(hub, error)}") from None
    except known.OfflineModeIsEnabled:
        raise UsageError(f"{what} needs a network, and HF_HUB_OFFLINE is set; unset it") from None
    except Exception as error:  # the HTTP library beneath has errors of its own
        if storage.is_full(error):
            raise NoSpace(f"no room for {what} in {hub.constants.HF_HUB_CACHE}") from error
        said = f"{type(error).__name__}: {storage.one_line(error)}"
        raise UsageError(
            f"{what} cannot be had from {hub.constants.ENDPOINT}: {said}; look at the network, "
            "then start the same command again"
        ) from None


def _absent(what, hub, error):
    cache = f"the cache, {str(hub.constants.HF_HUB_CACHE)!r}, lacks it, or a part of it"
    if hub.constants.HF_HUB_OFFLINE:
        return f"{what}: HF_HUB_OFFLINE is set, and {cache}; unset it once where there is a network"
    if isinstance(error.__cause__, hub.errors.HfHubHTTPError):
        return f"{what}: {_refused(hub, error.__cause__)}, and {cache}"
    return (
        f"{what}: {hub.constants.ENDPOINT} cannot be reached, and {cache}; look at the network, or "
        "take a folder that holds it"
    )


def _refused(hub, error):
    status = error.response.status_code
    if status in (401, 403):
        return f"{hub.constants.ENDPOINT} does not let this token do that ({status}); {LOGIN}"
    said = error.server_message or storage.one_line(error)
    return f"{hub.constants.ENDPOINT} answers {status}: {' '.join(said.split())}"

"""`hf:OWNER/NAME[@REVISION]`: the files that are needed of it, in huggingface_hub's own cache.

Tokens, mirrors (HF_ENDPOINT), the cache (HF_HOME) and being offline (HF_HUB_OFFLINE) are that
library's: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables.
A file, and that there is no file of a name, is asked for once in a commit.
"""

from pathlib import Path
from typing import NamedTuple

from mae_jax import __version__
from mae_jax.config import named
from mae_jax.data.hub_errors import library, told
from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.weights import huggingface, timm
from mae_jax.weights import said as said_lib

_CARD = "README.md"  # says the licence
_SAFE, _INDEX, _PICKLED = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
_OURS = (_SAFE, "model.pth", "model.npz")
_PICKLES = (".pth", ".pt", ".bin", ".npz")


class Fetched(NamedTuple):
    """What a name stands for.

    Attributes:
      name: with the commit that it is.
      path: of a folder, or of the one file that holds weights.
    """

    name: str
    path: Path


def fetch(source: str | Path) -> Fetched:
    """Fetches config, preprocessor and weights, those that the cache does not have.

    Pickles are taken only where there are no safetensors. What cannot be read here is found out
    before its weights are fetched.

    Raises:
      UsageError: it is no such name, there is nothing of that name or no access to it, the hub
        cannot be reached and the cache does not have it, or it holds no weights of a known kind.
      NoSpace: the disk is full.
    """
    repository = _Repository(named.parse(source))
    config = repository.file("config.json")
    content = said_lib.read_json(config) if config is not None else {}
    for name in (_CARD, "SHA256SUMS"):
        repository.file(name, optional=True)
    if "model_type" in content:
        huggingface.check_kind(content, repository.what)
        repository.file("preprocessor_config.json")
        found = _weights(repository, (_SAFE, _INDEX, _PICKLED))
    elif "architecture" in content:
        timm.check_kind(content, repository.what)
        found = _weights(repository, (_SAFE, _PICKLED))
    else:
        found = _weights(repository, _OURS) or _only_one(repository)
    if found is None:
        raise repository.without_weights()
    known = content.keys() & {"model_type", "architecture"} or found.name in _OURS
    return Fetched(str(repository.name), found.parent if known else found)


def pinned(source: str | Path) -> str:
    """A name with the commit that it is now.

    Raises:
      UsageError: as `fetch`.
      NoSpace: as `fetch`.
    """
    return str(_Repository(named.parse(source)).name)


def cached_card(source: str | Path) -> Path | None:
    """The card of a name, where the cache has it; nothing is asked of the hub."""
    name = named.parse(source)
    try:
        hub = library(repr(str(source)))
    except UsageError:
        return None
    revision = name.commit or name.revision
    found = hub.try_to_load_from_cache(name.repository, _CARD, revision=revision)
    return Path(found) if isinstance(found, str) else None


class _Repository:
    """A repository of the hub, at one commit.

    Attributes:
      name: with its commit.
      what: the same as errors call it.
    """

    def __init__(self, name: named.Name):
        self._asked, self._hub = repr(str(name)), library(repr(str(name)))
        self.name = name
        if name.commit is None:
            self.name = name._replace(commit=self._commit(name))
            say(f"{name} is commit {self.name.commit}")
        self.what = repr(str(self.name))

    def _commit(self, name):
        """Which commit a branch or tag is, by the hub or else by the cache."""
        hub, revision = self._hub, name.revision or self._hub.constants.DEFAULT_REVISION
        with told(self._asked, name.repository, revision):
            try:
                path = self._download(name.repository, "config.json", revision)
                return path.parent.name
            except hub.errors.LocalEntryNotFoundError as error:
                return self._cached_commit(name.repository, revision, error)
            except hub.errors.EntryNotFoundError as error:  # but the repository is there
                header = hub.constants.HUGGINGFACE_HEADER_X_REPO_COMMIT
                return error.response.headers[header]

    def _download(self, repository, name, revision) -> Path:
        by = dict(library_name="mae_jax", library_version=__version__)  # as it tells the hub
        return Path(self._hub.hf_hub_download(repository, name, revision=revision, **by))

    def _cached_commit(self, repository, revision, error):
        try:
            return _snapshot(self._hub, repository, revision).name
        except self._hub.errors.LocalEntryNotFoundError:
            raise error from error.__cause__  # which says why the hub was not asked

    def file(self, name: str, optional: bool = False) -> Path | None:
        """Where a file lies; None where the repository has none of that name.

        Args:
          optional: also None where that is not known, as the hub cannot be reached.

        Raises:
          UsageError: as `fetch`.
          NoSpace: as `fetch`.
        """
        hub, of = self._hub, (self.name.repository, name)
        cached = hub.try_to_load_from_cache(*of, revision=self.name.commit)
        if cached is not None:
            return Path(cached) if isinstance(cached, str) else None  # known not to be there
        with told(self._asked, self.name.repository, self.name.commit):
            try:
                return self._download(*of, self.name.commit)
            except hub.errors.LocalEntryNotFoundError:
                if optional:
                    return None
                raise
            except hub.errors.EntryNotFoundError:
                return None

    def names(self) -> list[str]:
        """Of its files; offline, of those that the cache has.

        Raises:
          UsageError: as `fetch`.
        """
        hub, of = self._hub, self.name.repository
        with told(self._asked, of, self.name.commit):
            if hub.constants.HF_HUB_OFFLINE:
                return [path.name for path in _snapshot(hub, of, self.name.commit).iterdir()]
            return hub.HfApi().list_repo_files(of, revision=self.name.commit)

    def without_weights(self) -> UsageError:
        """That none of its files is one of weights that are read."""
        has = ", ".join(sorted(self.names())[:12]) or "nothing"
        return UsageError(
            f"{self.what} has no weights to read: they are safetensors, or else one .pth, .bin or "
            f".npz, of a ViT, and it has {has}"
        )


def _snapshot(hub, repository, revision) -> Path:
    """The folder of a revision in the cache, however much of it there is."""
    return Path(
        hub.snapshot_download(
            repository, revision=revision, local_files_only=True, allow_patterns=[]
        )
    )


def _weights(repository, names) -> Path | None:
    """The first of the files that is there; of an index, with all that it names."""
    for name in names:
        found = repository.file(name)
        if found is not None:
            for shard in huggingface.shards(found) if name == _INDEX else ():
                repository.file(shard)  # one that is not there is told when it is read
            return found
    return None


def _only_one(repository) -> Path | None:
    """The only file of weights, of any name."""
    names = repository.names()
    for suffixes in ((".safetensors",), _PICKLES):
        found = sorted(name for name in names if name.endswith(suffixes) and "/" not in name)
        if len(found) > 1:
            raise UsageError(
                f"{repository.what} has several files of weights, {', '.join(found)}, and nothing "
                "says which; download one and give its path"
            )
        if found:
            return repository.file(found[0])
    return None

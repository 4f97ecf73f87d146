"""An exported folder to a repository of the Hugging Face hub, in one commit."""

from pathlib import Path

from mae_jax.config import named
from mae_jax.data.hub_errors import library, told
from mae_jax.errors import UsageError

# What readers look for. Beside files of another model it would be read as that, or as part of it.
_READ = (
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "model.pth",
    "model.npz",
    "model.onnx",
    "model.onnx.data",
)


def check(repository: str) -> None:
    """Finds out, before anything is written, that a repository may be written to.

    Raises:
      UsageError: it is no OWNER/NAME, huggingface_hub is not installed, there is no token, or the
        hub does not accept it or cannot be reached.
    """
    what = f"--push={repository}"
    named.check_repository(repository, what)
    hub = library(what)
    with told(what, repository):
        hub.HfApi().whoami()


def push(folder: str | Path, repository: str) -> str:
    """Uploads the files of a folder; makes the repository, where there is none.

    What else lies there stays.

    Args:
      repository: OWNER/NAME; a new one is public, unless its owner's settings say otherwise.

    Returns:
      The name that reads just these files: hf:OWNER/NAME@COMMIT.

    Raises:
      UsageError: as `check`, or the token may not write there, or weights of another format lie
        there, which these would be mixed up with.
    """
    what, files = f"--push={repository}", sorted(Path(folder).iterdir())
    hub = library(what)
    with told(what, repository):
        api = hub.HfApi()
        api.create_repo(repository, exist_ok=True)
        before = api.model_info(repository)
        there = {file.rfilename for file in before.siblings or ()}
        strange = sorted(there & {*_READ} - {path.name for path in files})
        if strange:
            raise UsageError(
                f"{what} has {', '.join(strange)} of another export, which would be mixed up with "
                "this one; delete them there, or give another repository"
            )
        done = api.create_commit(
            repository,
            [hub.CommitOperationAdd(path.name, path) for path in files],
            commit_message="Export of mae_jax",
            parent_commit=before.sha,  # nothing else may have come since
        )
    return str(named.Name(repository, commit=done.oid))

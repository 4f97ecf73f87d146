"""Files of named tensors: safetensors and npz, with a line of JSON about them inside."""

from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data import packed
from mae_jax.errors import UsageError

METADATA = "mae_jax"


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors of a safetensors file, and its metadata.

    Raises:
      UsageError: it is damaged, or no such file.
    """
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise UsageError(f"{str(path)!r} is damaged or no safetensors file: {error}") from None


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], metadata: str = "") -> None:
    """Writes tensors as transformers and timm want them, marked as PyTorch's layout."""
    from safetensors import numpy

    about = {"format": "pt"} | ({METADATA: metadata} if metadata else {})
    numpy.save_file(tensors, path, metadata=about)


def read_npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of an npz file, and its metadata.

    Raises:
      UsageError: it is damaged, holds Python objects, or unpacks to far more than it is.
    """
    try:
        packed.check_npz(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # damaged bytes may end a decoder anywhere
        raise UsageError(f"{str(path)!r} is damaged or no npz file: {error}") from None
    metadata = {METADATA: str(arrays.pop(METADATA))} if METADATA in arrays else {}
    return arrays, metadata


def write_npz(path: Path, tensors: dict[str, np.ndarray], metadata: str) -> None:
    """Writes arrays by published name, in PyTorch's layout."""
    with path.open("wb") as file:
        np.savez(file, **tensors, **{METADATA: np.array(metadata)})

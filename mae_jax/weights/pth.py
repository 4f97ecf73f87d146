"""`.pth`: PyTorch's zip archives, read and written without torch."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data import packed
from mae_jax.errors import UsageError
from mae_jax.weights import pickles

_ALIGNMENT = 64  # bytes; where torch puts the numbers of a tensor


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The model's tensors by name, and whatever else the file holds, tensors unread.

    The model is what lies under `model`, `state_dict` or `model_state`, or else the whole file.

    Raises:
      UsageError: it is no such archive, is damaged, or its pickle asks to run something.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.split("/", 1)[-1]: name for name in archive.namelist()}
            if "data.pkl" not in names:
                raise UsageError(f"{str(path)!r} is a zip file, but not one of torch's")
            content = pickles.read(_record(archive, names["data.pkl"]))
            little = "byteorder" not in names or _record(archive, names["byteorder"]) == b"little"
            model, rest = _model(content)
            packed.check_unpacked(sum(tensor.bytes for tensor in model.values()), path)
            storages: dict[str, bytes] = {}
            tensors = {}
            for name, tensor in model.items():
                key = tensor.storage.key
                if key not in storages:
                    storages[key] = _record(archive, names[f"data/{key}"])
                tensors[name] = tensor.read(storages[key], little)
            return tensors, rest
    except zipfile.BadZipFile as error:
        raise UsageError(_no_archive(path, error)) from None
    except UsageError as error:
        raise UsageError(f"{str(path)!r}: {error}") from None
    except Exception as error:  # damaged bytes may end a decoder anywhere
        raise UsageError(f"{str(path)!r} is damaged: {error}") from None


def _record(archive, name):
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, which torch never does")
    return archive.read(name)  # checks the record's checksum


def _model(content):
    if not isinstance(content, dict):
        raise UsageError("it holds no dictionary of weights")
    rest = dict(content)
    for key in ("model", "state_dict", "model_state"):
        if isinstance(content.get(key), dict):
            model = rest.pop(key)
            break
    else:
        model, rest = content, {}
    tensors = {
        # As nn.DataParallel and torch.compile spell them.
        str(name).removeprefix("module.").removeprefix("_orig_mod."): value
        for name, value in model.items()
        if isinstance(value, pickles.Tensor)
    }
    if not tensors:
        raise UsageError("it holds no weights")
    return tensors, rest


def _no_archive(path, error):
    with open(path, "rb") as file:
        start = file.read(2)
    if start == b"PK":
        return f"{str(path)!r} is damaged or cut short: {error}"
    return (
        f"{str(path)!r} is not a zip archive, as torch has written them since 1.6; in torch, "
        "torch.save(torch.load(FILE), NEW) converts an older one"
    )


def write(path: Path, tensors: dict[str, np.ndarray], metadata: str) -> None:
    """Writes `{"model": tensors, "mae_jax": metadata}`, which `torch.load` reads as such."""
    content, storages = pickles.write({"model": tensors, "mae_jax": metadata})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        root = path.stem
        _add(archive, f"{root}/data.pkl", content)
        _add(archive, f"{root}/byteorder", b"little")
        for index, storage in enumerate(storages):
            data = np.ascontiguousarray(storage, "<f4")
            _add(archive, f"{root}/data/{index}", data.tobytes())
        _add(archive, f"{root}/version", b"3\n")


def _add(archive, name, data):
    info = zipfile.ZipInfo(name)  # dated 1980: the same weights make the same file
    header = archive.fp.tell() + 30 + len(name.encode()) + 4
    padding = -header % _ALIGNMENT
    info.extra = b"FB" + padding.to_bytes(2, "little") + b"\0" * padding
    archive.writestr(info, data)

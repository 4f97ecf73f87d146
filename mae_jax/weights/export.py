"""Weights out, to a folder that says what it holds and was read back before it is handed over."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.errors import UsageError
from mae_jax.weights import card, formats, huggingface, pth, public, timm, whitened
from mae_jax.weights.described import Weights
from mae_jax.weights.read import SUMS, read, sha256

PARTS = ("encoder", "full")
GRAPHS = ("onnx", "stablehlo")  # which are run, not read, and hold no decoder
_PREPROCESSING = ("huggingface", "timm")  # which bring their own


def _pth(folder: Path, weights: Weights, about: dict[str, Any]) -> list[Path]:
    if weights.kind == "full" and weights.decoder_attention != "self":
        raise UsageError(
            "who reads a .pth computes with a decoder whose tokens all look at all, and in that of "
            "these weights hidden patches look at visible ones alone; give --part=encoder, or take "
            "--format=safetensors"
        )
    pth.write(folder / "model.pth", weights.tensors, json.dumps(about))
    return [folder / "model.pth"]


def _npz(folder: Path, weights: Weights, about: dict[str, Any]) -> list[Path]:
    formats.write_npz(folder / "model.npz", weights.tensors, json.dumps(about))
    return [folder / "model.npz"]


def _safetensors(folder: Path, weights: Weights, about: dict[str, Any]) -> list[Path]:
    path = folder / "model.safetensors"
    formats.write_safetensors(path, weights.tensors, json.dumps(about))
    return [path]


def _onnx(folder: Path, weights: Weights, about: dict[str, Any]) -> list[Path]:
    from mae_jax.weights import onnx

    return onnx.write(folder, weights, about)


def _stablehlo(folder: Path, weights: Weights, about: dict[str, Any]) -> list[Path]:
    from mae_jax.weights import stablehlo

    return stablehlo.write(folder, weights, about)


FORMATS: dict[str, Callable[[Path, Weights, dict[str, Any]], list[Path]]] = {
    "huggingface": huggingface.write,
    "timm": timm.write,
    "pth": _pth,
    "npz": _npz,
    "safetensors": _safetensors,
    "onnx": _onnx,
    "stablehlo": _stablehlo,
}


def export(
    weights: Weights,
    out: str | Path,
    *,
    format: str,
    part: str | None = None,
    force: bool = False,
    license: str | None = None,
    whitening: whitened.Fitted | None = None,
) -> dict[str, Any]:
    """Writes weights in another library's format, with a card and hashes, and reads them back.

    Of paths on this machine, to data and runs, the last component is written, in card and files.

    Args:
      out: the folder to make; nothing may be there.
      format: one of `FORMATS`.
      part: "full" is all there is, "encoder" leaves out decoder and head. By default as much as
        the format can hold: for timm, ONNX and StableHLO no decoder.
      force: whether weights that were not trained, or not to the end, will do.
      license: of the weights, where the source does not say it.
      whitening: of the encoder's features, to be kept with it, in `whitening.npz`.

    Returns:
      What was written: folder, format, part, tensors, parameters, and each file's sha256.

    Raises:
      UsageError: the format cannot hold these weights, they are not trained, `out` is taken, or
        the whitening is of other weights.
      RuntimeError: what was written does not read back as it was.
    """
    check(out, format=format, part=part)
    if not force:
        _check_trained(weights)
    if format in GRAPHS and part == "full" and weights.kind == "full":
        raise UsageError(f"--format={format} holds no decoder; give --part=encoder")
    wanted = reads(format, part)
    if wanted == "encoder" or (wanted == "no_decoder" and weights.kind == "full"):
        weights = weights.encoder()
    if weights.pixels.floats and format in _PREPROCESSING:
        raise UsageError(
            f"{format} prepares images of 8 bits alone, and these weights were given float32 "
            "pixels; take --format=safetensors, npz, pth, onnx or stablehlo, whose card says the "
            "units"
        )
    if whitening is not None:
        whitening.check_weights(whitened.digest_of(weights.encoder().tensors))
    if license is not None:
        weights.origin["license"] = license
    weights = public.without_paths(weights)
    about = weights.settings() | {"origin": weights.origin}
    folder = Path(out).absolute()
    # Made beside it and moved: a folder of that name is a whole one.
    making = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        making.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"--out {str(out)!r} cannot be written: {error.strerror}") from None
    try:
        files = FORMATS[format](making, weights, about)
        if whitening is not None:
            whitening.write(making / whitened.FILE)
            files.append(making / whitened.FILE)
        sums = {file.name: sha256(file) for file in files}
        (making / SUMS).write_text("".join(f"{s}  {name}\n" for name, s in sums.items()))
        for file in files:  # safetensors makes files that nobody else may read
            shutil.copymode(making / SUMS, file)
        (making / "README.md").write_text(card.text(weights, format, sums, whitening))
        if format not in GRAPHS:  # which compare what they compute as they write
            _compare(weights, read(making))
        if folder.exists():
            folder.rmdir()
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return {
        "out": str(folder),
        "format": format,
        "part": weights.kind,
        "pixels": card.pixels(weights.pixels),
        "tensors": len(weights.tensors),
        "parameters": sum(tensor.size for tensor in weights.tensors.values()),
        "sha256": sums,
    }


def check(out: str | Path, *, format: str, part: str | None) -> None:
    """Raises UsageError for what can be told before any weights are read; see `export`."""
    if format not in FORMATS:
        raise UsageError(f"format {format!r} is unknown; known are {', '.join(FORMATS)}")
    if part not in (None, *PARTS):
        raise UsageError(f"part {part!r} is unknown; known are {', '.join(PARTS)}")
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--out {str(out)!r} is there already; give a new folder")


def reads(format: str, part: str | None) -> str:
    """How much of a source `export` needs, as `read` calls it."""
    return part or ("no_decoder" if format in ("timm", *GRAPHS) else "full")


def _check_trained(weights: Weights) -> None:
    source = weights.origin.get("source", "the model")
    if weights.unfinished:
        raise UsageError(f"{weights.unfinished}; let it finish, or give --force")
    norms = [t for n, t in weights.tensors.items() if "norm" in n and n.endswith(".weight")]
    biases = [t for name, t in weights.tensors.items() if name.endswith(".bias")]
    if all((norm == 1).all() for norm in norms) and not any(bias.any() for bias in biases):
        raise UsageError(
            f"{source!r} is not trained: every bias is 0 and every norm's weight 1; train it, or "
            "give --force"
        )


def _compare(wrote: Weights, found: Weights) -> None:
    """Raises RuntimeError unless both are the same, tensors to the last bit."""
    for name in wrote.tensors.keys() | found.tensors.keys():
        a, b = (weights.tensors.get(name, np.empty(0)) for weights in (wrote, found))
        if a.shape != b.shape or a.tobytes() != b.tobytes():
            raise RuntimeError(f"{name} does not read back as it was written")
    if wrote.settings() != found.settings():
        raise RuntimeError(f"{wrote.settings()} reads back as {found.settings()}")

"""`.npz` of Google's vision transformers: names and layouts of Flax, as big_vision writes them.

Dosovitskiy et al. 2021 (google-research/vision_transformer) and its successor (big_vision), whose
blocks may be stacked along a first axis. GELU is by the tanh formula in both, and pixels are in -1
to 1. Their layouts are ours: (in, out), but with heads on an axis of their own.
"""

import re
from typing import Any

import numpy as np

from mae_jax.data.progress import say
from mae_jax.errors import UsageError
from mae_jax.weights import keymap

_SIGN = "embedding/kernel"  # of patches; a text tower has none
_PREFIXES = [a + b for a in ("", "params/", "opt/target/") for b in ("", "img/")]
_NORM = {"scale": "scale", "bias": "bias"}
_LINEAR = {"kernel": "kernel", "bias": "bias"}
_PARTS = (  # of a block: theirs, ours; numbers are by the order of layers, or by kind
    (r"LayerNorm_0", "norm1", _NORM),
    (r"MultiHeadDotProductAttention_[01]/out", "attn.proj", _LINEAR),
    (r"LayerNorm_[12]", "norm2", _NORM),
    (r"MlpBlock_[03]/Dense_0", "mlp.fc1", _LINEAR),
    (r"MlpBlock_[03]/Dense_1", "mlp.fc2", _LINEAR),
)
_AROUND = (
    (r"embedding", "encoder.patch_embed", _LINEAR),
    (r"Transformer/encoder_norm", "encoder.norm", _NORM),
    (r"head", "head", _LINEAR),
)
_BLOCK = re.compile(r"Transformer/encoderblock(?:_(\d+))?/(.+)")
_QKV = re.compile(r"MultiHeadDotProductAttention_[01]/(query|key|value)/(kernel|bias)")
_TABLES = ("pos_embedding", "Transformer/posembed_input/pos_embedding")


def is_one(tensors: dict[str, np.ndarray]) -> bool:
    """Whether the names are of such a file."""
    return any(prefix + _SIGN in tensors for prefix in _PREFIXES)


def to_published(
    tensors: dict[str, np.ndarray], source: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors by published name, and what such files say by being one.

    A head that reads other features than a classifier's of ours is left out, which a line says.

    Args:
      source: to name in errors.

    Raises:
      UsageError: there are two towers of images, no table of positions, a pooling head (MAP) or
        other parts that mae_jax's encoder has not, or shapes that fit nothing.
    """
    found = [prefix for prefix in _PREFIXES if prefix + _SIGN in tensors]
    if len(found) > 1:
        raise UsageError(f"{source} has several towers of images, {', '.join(map(repr, found))}")
    theirs = {
        name.removeprefix(found[0]): _recovered(value)
        for name, value in tensors.items()
        if name.startswith(found[0])
    }
    _check_head(theirs, source)
    said: dict[str, Any] = {"gelu": "tanh"}
    try:
        ours = _ours(theirs, said)
        channels = ours["encoder", "patch_embed", "kernel"].shape[2]
        published = keymap.to_published(ours)
    except (ValueError, IndexError, TypeError) as error:  # of numpy: axes that are not there
        raise UsageError(f"{source} has shapes that are no vision transformer's: {error}") from None
    if theirs:
        names = ", ".join(sorted(theirs)[:5])
        raise UsageError(f"{source} has {names}, which mae_jax's encoder has not")
    said |= {"class_token": ("encoder", "cls_token") in ours}
    said |= {"mean": [0.5] * channels, "std": [0.5] * channels}
    return published, said


def _recovered(value):
    """numpy has no bfloat16, and keeps it as two bytes of anything."""
    if value.dtype.kind == "V" and value.dtype.itemsize == 2:
        import ml_dtypes

        return value.view(ml_dtypes.bfloat16).astype(np.float32)
    return value


def _check_head(theirs, source):
    pooling = [name for name in theirs if name.startswith("MAPHead_")]
    if pooling:
        raise UsageError(
            f"{source} pools by attention ({pooling[0]}), and mae_jax's encoder has no such head"
        )
    if not any(name in theirs for name in _TABLES):
        raise UsageError(
            f"{source} has no table of positions (pos_embedding), and fixed ones are not those of "
            "mae_jax"
        )
    apart = [name for name in theirs if name.startswith("pre_logits/")]
    if "head/kernel" in theirs and (apart or "cls" not in theirs):
        why = "goes through pre_logits" if apart else "reads the mean of normalised patches"
        say(f"{source}: its head {why}, as no classifier here does; the encoder alone is read")
        apart += ["head/kernel", "head/bias"]
    for name in apart:
        theirs.pop(name, None)


def _ours(theirs, said) -> dict[keymap.Path, np.ndarray]:
    """Our parameters by path, taken out of theirs."""
    ours: dict[keymap.Path, np.ndarray] = {}
    qkv: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for name in list(theirs):
        block = _BLOCK.fullmatch(name)
        if block is None:
            path = _path(name, _AROUND)
            if path is not None:
                ours[path] = theirs.pop(name)
            continue
        number, rest = block.groups()
        part, path = _QKV.fullmatch(rest), _path(rest, _PARTS)
        if part is None and path is None:
            continue
        value = theirs.pop(name)
        for at, one in [(int(number), value)] if number else enumerate(value):
            if part is None:
                ours["encoder", "blocks", at, *path] = _flat(rest, one)
            else:
                kind, leaf = part.groups()
                said["heads"] = one.shape[-2]
                width = one.shape[-2] * one.shape[-1]
                qkv.setdefault((at, leaf), {})[kind] = one.reshape(*one.shape[:-2], width)
    for (at, leaf), parts in qkv.items():
        stacked = np.stack([parts[kind] for kind in ("query", "key", "value") if kind in parts])
        ours["encoder", "blocks", at, "attn", "qkv", leaf] = stacked
    _place(ours, theirs)
    return ours


def _path(name, table) -> keymap.Path | None:
    for there, here, leaves in table:
        found = re.fullmatch(rf"{there}/(\w+)", name)
        if found and found.group(1) in leaves:
            return (*here.split("."), leaves[found.group(1)])
    return None


def _flat(name, value):
    """The projection of attention, (heads, each, D), as a matrix."""
    if name.endswith("/out/kernel"):
        return value.reshape(-1, value.shape[-1])
    return value


def _place(ours, theirs):
    """Class token and positions. The older files' table has a row for the class token."""
    if "cls" in theirs:
        ours["encoder", "cls_token"] = theirs.pop("cls")
    for name in _TABLES:
        if name in theirs:
            table = theirs.pop(name)
            if "/" not in name and ("encoder", "cls_token") in ours:
                table = np.concatenate([np.zeros_like(table[:, :1]), table], 1)
            ours["encoder", "pos_embed"] = table

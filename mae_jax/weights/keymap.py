"""One table from our parameters to their names and layouts everywhere else.

`published` names are those of the published `.pth` files, which timm shares for the encoder;
`huggingface` names are those of transformers' ViTMAEForPreTraining. Every row is used in both
directions. `{i}` is a block's number.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Path = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """How a tensor lies there, and back; inverses of each other."""

    there: Callable[[np.ndarray], np.ndarray]
    here: Callable[[np.ndarray], np.ndarray]


SAME = Arrangement(lambda x: x, lambda x: x)
# (in, out) here, (out, in) there.
LINEAR = Arrangement(lambda x: x.T, lambda x: x.T)
# (kind, in, out) here, (kind and out, in) there; kinds are queries, keys and values.
QKV = Arrangement(
    lambda x: x.swapaxes(1, 2).reshape(-1, x.shape[1]),
    lambda x: x.reshape(3, -1, x.shape[1]).swapaxes(1, 2),
)
QKV_BIAS = Arrangement(lambda x: x.reshape(-1), lambda x: x.reshape(3, -1))
# (*patch, C, D) here, (D, C, *patch) there: the kernel of a convolution.
PATCH = Arrangement(
    lambda x: np.moveaxis(np.moveaxis(x, -1, 0), -1, 1),
    lambda x: np.moveaxis(np.moveaxis(x, 1, -1), 0, -1),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One parameter.

    Attributes:
      ours: dotted path in our tree.
      published: its name in a `.pth`.
      huggingface: its name in transformers; three where one is split into equal parts along the
        first axis; none where transformers has no such parameter.
      layout: of the tensor, published and in transformers alike.
    """

    ours: str
    published: str
    huggingface: tuple[str, ...]
    layout: Arrangement = SAME


def _pair(ours, published, *huggingface, layout=LINEAR) -> list[Row]:
    """The rows of a weight and its bias; a LayerNorm's weight is a `scale` of ours."""
    weight = "scale" if layout is SAME else "kernel"
    there = tuple(f"{name}.weight" for name in huggingface)
    bias = tuple(f"{name}.bias" for name in huggingface)
    return [
        Row(f"{ours}.{weight}", f"{published}.weight", there, layout),
        Row(f"{ours}.bias", f"{published}.bias", bias, QKV_BIAS if layout is QKV else SAME),
    ]


def _blocks(ours: str, published: str, huggingface: str) -> list[Row]:
    ours, published, there = (f"{name}.{{i}}" for name in (ours, published, huggingface))
    thirds = [f"{there}.attention.attention.{part}" for part in ("query", "key", "value")]
    return [
        *_pair(f"{ours}.norm1", f"{published}.norm1", f"{there}.layernorm_before", layout=SAME),
        *_pair(f"{ours}.attn.qkv", f"{published}.attn.qkv", *thirds, layout=QKV),
        *_pair(f"{ours}.attn.proj", f"{published}.attn.proj", f"{there}.attention.output.dense"),
        *_pair(f"{ours}.norm2", f"{published}.norm2", f"{there}.layernorm_after", layout=SAME),
        *_pair(f"{ours}.mlp.fc1", f"{published}.mlp.fc1", f"{there}.intermediate.dense"),
        *_pair(f"{ours}.mlp.fc2", f"{published}.mlp.fc2", f"{there}.output.dense"),
    ]


_PATCHES = "vit.embeddings.patch_embeddings.projection"
ROWS: tuple[Row, ...] = (
    Row("encoder.cls_token", "cls_token", ("vit.embeddings.cls_token",)),
    Row("encoder.pos_embed", "pos_embed", ("vit.embeddings.position_embeddings",)),
    *_pair("encoder.patch_embed", "patch_embed.proj", _PATCHES, layout=PATCH),
    *_blocks("encoder.blocks", "blocks", "vit.encoder.layer"),
    *_pair("encoder.norm", "norm", "vit.layernorm", layout=SAME),
    # Ours alone: models that show hidden patches to the encoder (paper, table 1c).
    Row("encoder.mask_token", "encoder_mask_token", ()),
    *_pair("decoder.embed", "decoder_embed", "decoder.decoder_embed"),
    Row("decoder.mask_token", "mask_token", ("decoder.mask_token",)),
    Row("decoder.pos_embed", "decoder_pos_embed", ("decoder.decoder_pos_embed",)),
    *_blocks("decoder.blocks", "decoder_blocks", "decoder.decoder_layers"),
    *_pair("decoder.norm", "decoder_norm", "decoder.decoder_norm", layout=SAME),
    *_pair("decoder.pred", "decoder_pred", "decoder.decoder_pred"),
    # Ours alone: what PCA coefficients, and a teacher's tokens, are measured by.
    Row("target.mean", "target_mean", ()),
    Row("target.components", "target_components", ()),
    Row("target.deviation", "target_deviation", ()),
    *_pair("fc_norm", "fc_norm", layout=SAME),
    *_pair("head", "head", "classifier"),
)
_BY_OURS = {row.ours: row for row in ROWS}
_BY_PUBLISHED = {row.published: row for row in ROWS}


def _template(name: str) -> tuple[str, str]:
    """`blocks.3.norm1.bias` as (`blocks.{i}.norm1.bias`, `3`)."""
    number = re.search(r"(?<=blocks\.)\d+(?=\.)", name)
    if number is None:
        return name, ""
    return name[: number.start()] + "{i}" + name[number.end() :], number.group()


def published_name(path: Path) -> str:
    """The published name of one of our parameters."""
    template, number = _template(".".join(str(part) for part in path))
    return _BY_OURS[template].published.replace("{i}", number)


def shape_there(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in the published files of one of our parameters, from its shape here."""
    layout = _BY_OURS[_template(".".join(str(part) for part in path))[0]].layout
    return layout.there(np.broadcast_to(np.float32(0), shape)).shape


def path_of(published: str) -> Path | None:
    """Our path of a published name; None for one that is not in the table."""
    template, number = _template(published)
    row = _BY_PUBLISHED.get(template)
    if row is None:
        return None
    ours = row.ours.replace("{i}", number)
    return tuple(int(part) if part.isdigit() else part for part in ours.split("."))


def to_published(ours: dict[Path, np.ndarray]) -> dict[str, np.ndarray]:
    """Our parameters by path, as published names and layouts, in the table's order."""
    there = {}
    for path, value in ours.items():
        name = published_name(path)
        row = _BY_PUBLISHED[_template(name)[0]]
        there[name] = np.ascontiguousarray(row.layout.there(value))
    return dict(sorted(there.items(), key=lambda item: _place(item[0])))


def from_published(there: dict[str, np.ndarray]) -> dict[Path, np.ndarray]:
    """The inverse of `to_published`; every name must be in the table."""
    ours = {}
    for name, value in there.items():
        row = _BY_PUBLISHED[_template(name)[0]]
        ours[path_of(name)] = np.ascontiguousarray(row.layout.here(value))
    return ours


def tree(there: dict[str, np.ndarray]) -> dict[str | int, Any]:
    """What `from_published` gives, as a tree of dictionaries."""
    made: dict[str | int, Any] = {}
    for path, value in from_published(there).items():
        node = made
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value
    return made


def huggingface_names(published: str) -> tuple[str, ...]:
    """transformers' names of a published one: one, three for qkv, or none."""
    template, number = _template(published)
    return tuple(n.replace("{i}", number) for n in _BY_PUBLISHED[template].huggingface)


def to_huggingface(published: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names to transformers': what it keeps apart is split along the first axis."""
    there = {}
    for name, value in published.items():
        names = huggingface_names(name)
        parts = np.split(value, len(names)) if names else []
        there |= dict(zip(names, map(np.ascontiguousarray, parts), strict=True))
    return there


def from_huggingface(
    there: dict[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """transformers' names to published ones.

    Returns:
      The tensors, the names that lack beside a part that is there, and those not in the table.
    """
    there, published, missing = dict(there), {}, []
    depths = _depths(there)
    for row in ROWS:
        for number in range(depths.get(row.published.split(".")[0], 1)):
            names = [name.replace("{i}", str(number)) for name in row.huggingface]
            found = [name for name in names if name in there]
            if found and len(found) < len(names):
                missing += [name for name in names if name not in there]
                for name in found:
                    del there[name]
            elif found:
                whole = row.published.replace("{i}", str(number))
                published[whole] = np.concatenate([there.pop(name) for name in names])
    return published, missing, list(there)


def _depths(there: dict[str, np.ndarray]) -> dict[str, int]:
    depths = {}
    for published, prefix in (("blocks", "vit.encoder"), ("decoder_blocks", "decoder.decoder")):
        found = [
            re.match(rf"{re.escape(prefix)}(?:_layers|\.layer)\.(\d+)\.", name) for name in there
        ]
        deepest = max((int(f.group(1)) + 1 for f in found if f), default=0)
        depths[published] = min(deepest, len(there))  # whatever a name may say
    return depths


def expected(
    kind: str,
    *,
    depth: int,
    decoder_depth: int = 0,
    class_token: bool = True,
    mean_pool: bool = False,
    mask_tokens_in_encoder: bool = False,
    target: str = "pixels",
) -> Iterator[str]:
    """The published names that a file of this kind holds, in the table's order.

    Args:
      kind: "encoder", "full" or "classifier".
      mean_pool: whether `fc_norm` stands in for the encoder's last norm.
      target: of a full model; "pca" and "features" have tables.
    """
    absent = {"norm"} if mean_pool else {"fc_norm"}
    if kind != "classifier":
        absent.add("head")
    if not class_token:
        absent.add("cls_token")
    tables = {"pca": {"target_mean", "target_components"}}
    tables["features"] = {"target_mean", "target_deviation"}
    absent |= {"target_mean", "target_components", "target_deviation"}
    if kind == "full":
        absent -= tables.get(target, set())
    mask_token_in_encoder = kind == "full" and mask_tokens_in_encoder
    absent.add("mask_token" if mask_token_in_encoder else "encoder_mask_token")
    for row in ROWS:
        first = row.published.split(".")[0]
        if first in absent or (kind != "full" and row.ours.startswith("decoder.")):
            continue
        blocks = {"blocks": depth, "decoder_blocks": decoder_depth}.get(first)
        if blocks is None:
            yield row.published
        else:
            yield from (row.published.replace("{i}", str(i)) for i in range(blocks))


def _place(published: str) -> tuple[int, int, int]:
    template, number = _template(published)
    row = list(_BY_PUBLISHED).index(template)
    first = template.split("{i}")[0]
    start = next(i for i, name in enumerate(_BY_PUBLISHED) if name.startswith(first))
    return (start, int(number), row) if number else (row, 0, row)

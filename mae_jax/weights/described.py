"""Weights together with what must be known to compute with them."""

import dataclasses
import hashlib
import re
from typing import Any

import numpy as np

from mae_jax.errors import UsageError
from mae_jax.models import patches, sizes
from mae_jax.pixels import Pixels
from mae_jax.weights import foreign, keymap, position_grid

GIVEN = ("heads", "decoder_heads", "norm_pix", "image_size", "patch_size")
_HEADS = {width: heads for width, _, heads, *_ in sizes.SIZES.values()}
_DECODER_HEADS = {row[4]: row[6] for row in sizes.SIZES.values()}
_PIXELS = {"pixels": "kind"} | {
    name: name for name in ("mean", "std", "crop", "max_pixels", "nodata")
}
# Nothing is said of what is as in every other model.
_PLAIN = {"registers": 0, "gelu": "erf"}
_PLAIN_DECODER = {"decode_ratio": 1.0, "decoder_attention": "self"}
_TABLES = {"target_components": "pca", "target_deviation": "features"}  # what target has which
_BLOCK = re.compile(r"(decoder_)?blocks\.(\d+)\.")


@dataclasses.dataclass(frozen=True)
class Weights:
    """Everything a source says.

    Attributes:
      tensors: by published name, float32, in PyTorch's layout; see `keymap`.
      kind: "encoder", "full" (encoder and decoder) or "classifier".
      dimensions: of the model; the decoder's mean nothing but in a full one.
      class_tokens: how many, registers included.
      registers: how many of the class tokens are registers; see `models.encoder.Encoder`.
      gelu: "erf" or "tanh"; see `models.transformer.Mlp`.
      mean_pool, mask_tokens_in_encoder, norm_pix, mask_ratio, sampling, mask_unit,
        loss_on, decode_ratio, decoder_attention, target: as in the models; `mean_pool` says
        whether `fc_norm` stands in for the encoder's last norm.
      pixels: what the model is given.
      origin: where the weights come from, as JSON can hold it.
    """

    tensors: dict[str, np.ndarray]
    kind: str
    dimensions: sizes.Dimensions
    class_tokens: int
    mean_pool: bool
    mask_tokens_in_encoder: bool
    norm_pix: bool
    mask_ratio: float
    sampling: str
    mask_unit: int
    loss_on: str
    target: str
    pixels: Pixels
    origin: dict[str, Any]
    registers: int = 0
    gelu: str = "erf"
    decode_ratio: float = 1.0
    decoder_attention: str = "self"

    @property
    def class_token(self) -> bool:
        """Whether there is one."""
        return self.class_tokens > 0

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of a classifier's classes in the order of its logits, where they are known."""
        names = self.origin.get("classes")
        return tuple(names) if names and self.kind == "classifier" else None

    @property
    def unfinished(self) -> str | None:
        """In words, that the run they are of has not come to its end; None where it has."""
        step, steps = self.origin.get("step"), self.origin.get("steps")
        if steps is None or step >= steps:
            return None
        return f"{self.origin.get('source', 'the model')!r} is trained for {step} of {steps} steps"

    def settings(self) -> dict[str, Any]:
        """All but the tensors and the origin, as JSON can hold it; see `describe`."""
        d = dataclasses.asdict(self.dimensions)
        if self.kind != "full":
            d = {name: value for name, value in d.items() if not name.startswith("decoder")}
        names, plain = ["kind", "class_token", "mean_pool"], _PLAIN
        if self.kind == "full":
            names += ["mask_tokens_in_encoder", "norm_pix"]
            names += ["mask_ratio", "sampling", "mask_unit", "loss_on", "target"]
            plain = _PLAIN | _PLAIN_DECODER
        names += [name for name, value in plain.items() if getattr(self, name) != value]
        return d | {name: getattr(self, name) for name in names} | self.pixels.settings()

    def sha256(self) -> str:
        """Of all tensors, by their names."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()

    def encoder(self) -> "Weights":
        """Without decoder and head."""
        keep = keymap.expected(
            "encoder",
            depth=self.dimensions.depth,
            class_token=self.class_token,
            mean_pool=self.mean_pool,
        )
        tensors = {name: self.tensors[name] for name in keep}
        return dataclasses.replace(
            self, tensors=tensors, kind="encoder", mask_tokens_in_encoder=False
        )


def describe(
    tensors: dict[str, np.ndarray],
    said: dict[str, Any],
    given: dict[str, Any],
    source: str,
    part: str = "full",
) -> Weights:
    """Settles what weights are from their names and shapes, what came with them and the caller.

    That every tensor has the shape it must have is for `model.check_shapes`.

    Args:
      tensors: by published name.
      said: what the source says, under the names of `Weights.settings`, and `origin`.
      given: what the caller says (`GIVEN`); None for what it does not.
      source: to name in errors.
      part: "encoder" leaves decoder and head out, "no_decoder" the decoder alone; neither asks for
        anything about what is left out.

    Raises:
      UsageError: parameters are missing, or unexpected, something was neither
        said nor given, or what was given contradicts what was said.
    """
    tensors, registers = foreign.plain(_folded(tensors, source), source)
    tensors = {name: np.asarray(t) for name, t in tensors.items()}
    for name, tensor in tensors.items():
        if not tensor.dtype.name.startswith(("float", "bfloat")):
            raise UsageError(f"{source}: {name} holds {tensor.dtype}, and weights are floats")
    known = {name: value for name, value in said.items() if value is not None}
    for name, value in given.items():
        if value is None or name == "image_size":
            continue  # of images, another size is a wish and not a contradiction
        value = sizes.per_axis(value) if name == "patch_size" else value
        if name in known and _same(known[name]) != _same(value):
            raise UsageError(f"{name} {value} was given, but {source} says {known[name]}")
        known[name] = value
    kind, structure = _structure(tensors, known)
    if max(structure["depth"], structure["decoder_depth"]) > len(tensors):
        raise UsageError(f"{source} numbers blocks beyond its {len(tensors)} tensors")
    _check_names(tensors, list(keymap.expected(kind, **structure)), kind, source)
    if part == "encoder" or (part == "no_decoder" and kind == "full"):
        kind, structure["mask_tokens_in_encoder"] = "encoder", False
        tensors = {name: tensors[name] for name in keymap.expected(kind, **structure)}
    tokens = int(structure["class_token"])
    if tokens and tensors["cls_token"].ndim == 3:
        tokens = tensors["cls_token"].shape[1]
    registers = int(known.get("registers", registers))
    if registers and (kind != "encoder" or registers >= tokens):
        raise UsageError(
            f"{source} says registers {registers}; it is of an encoder alone, fewer than its "
            f"{tokens} class tokens"
        )
    if kind == "full" and known.get("gelu", "erf") != "erf":
        raise UsageError(f"{source} says gelu {known['gelu']!r}, and a decoder is of erf's alone")
    size = given.get("image_size")
    dimensions = _dimensions(tensors, known, size, kind, structure | {"tokens": tokens}, source)
    if kind == "full" and "norm_pix" not in known:
        raise _unsaid(source, "norm_pix", "whether it predicts normalised pixels")
    return Weights(
        tensors={n: np.asarray(t, np.float32) for n, t in tensors.items()},
        kind=kind,
        dimensions=dimensions,
        class_tokens=tokens,
        mean_pool=structure["mean_pool"],
        mask_tokens_in_encoder=structure["mask_tokens_in_encoder"],
        norm_pix=bool(known.get("norm_pix", True)),
        mask_ratio=float(known.get("mask_ratio", 0.75)),
        sampling=known.get("sampling", "random"),
        mask_unit=int(known.get("mask_unit", 1)),
        loss_on=known.get("loss_on", "hidden"),
        target=structure["target"],
        pixels=_pixels(dimensions, known),
        origin=known.get("origin", {}),
        registers=registers,
        gelu=known.get("gelu", "erf"),
        decode_ratio=float(known.get("decode_ratio", 1.0)),
        decoder_attention=known.get("decoder_attention", "self"),
    )


def _same(value):
    return tuple(value) if isinstance(value, list) else value


def _structure(tensors, known):
    depths = {"": 0, "decoder_": 0}
    for name in tensors:
        block = _BLOCK.match(name)
        if block:
            part = block.group(1) or ""
            depths[part] = max(depths[part], int(block.group(2)) + 1)
    full = any(name.startswith("decoder_") or name.endswith("mask_token") for name in tensors)
    head = any(name.startswith("head.") for name in tensors)
    return "classifier" if head else "full" if full else "encoder", dict(
        depth=depths[""],
        decoder_depth=depths["decoder_"],
        class_token=bool(known.get("class_token", "cls_token" in tensors)),
        mean_pool=any(name.startswith("fc_norm.") for name in tensors),
        mask_tokens_in_encoder="encoder_mask_token" in tensors,
        target=next(
            (of for table, of in _TABLES.items() if table in tensors),
            known.get("target", "pixels"),
        ),
    )


def _check_names(tensors, expected, kind, source):
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in set(expected)]
    if missing or unexpected:
        wrong = [
            f"{what} {', '.join(names)}"
            for what, names in (("missing are", missing), ("unexpected are", unexpected))
            if names
        ]
        title = {"full": "an encoder with its decoder", "encoder": "an encoder"}.get(kind, kind)
        raise UsageError(f"{source} is not the weights of {title}: {'; '.join(wrong)}")


def _dimensions(tensors, known, image_size, kind, structure, source):
    kernel = tensors["patch_embed.proj.weight"]
    if kernel.ndim != 4:
        raise UsageError(
            f"{source}: patch_embed.proj.weight is {kernel.shape}; it must be (D, C, height, width)"
        )
    width, channels, *patch = kernel.shape
    if "patch_size" in known and sizes.per_axis(known["patch_size"]) != tuple(patch):
        raise UsageError(
            f"{source}: patch_size {known['patch_size']} does not fit its patches of {tuple(patch)}"
        )
    arguments = dict(
        patch_size=tuple(patch),
        channels=channels,
        width=width,
        depth=structure["depth"],
        heads=known.get("heads") or _HEADS.get(width),
        image_size=_image_size(tensors, known, image_size, tuple(patch), structure, source),
    )
    if arguments["heads"] is None:
        raise _unsaid(source, "heads", f"how many attention heads share its width of {width}")
    if kind == "full":
        decoder_width = len(np.atleast_1d(tensors["decoder_embed.weight"]))
        arguments |= dict(
            decoder_width=decoder_width,
            decoder_depth=structure["decoder_depth"],
            decoder_heads=known.get("decoder_heads") or _DECODER_HEADS.get(decoder_width),
        )
        if arguments["decoder_heads"] is None:
            what = f"how many attention heads share its decoder's width of {decoder_width}"
            raise _unsaid(source, "decoder_heads", what)
    return _resolve(arguments, source)


def _resolve(arguments, source=""):
    try:
        return sizes.resolve("base", **arguments)
    except ValueError as error:
        raise UsageError(f"{source}: {error}" if source else str(error)) from None


def _image_size(tensors, known, given, patch, structure, source):
    """Of the images the weights were made for: said, seen in the positions, square, or given."""
    table = tensors["pos_embed"]
    if table.ndim != 3:
        raise UsageError(f"{source}: pos_embed is {table.shape}; it must be (1, T + N, D)")
    count = table.shape[1] - structure["tokens"]
    if "image_size" in known:
        sides = sizes.per_axis(_same(known["image_size"]))
        if patches.count(patches.grid_shape(sides, patch)) == count:
            return sides
        raise UsageError(
            f"{source}: image_size {sides} in patches of {patch} does not fit its {count} positions"
        )
    grid = position_grid.seen(table[0, structure["tokens"] :])
    if grid is None and given is not None:
        grid = patches.grid_shape(sizes.per_axis(given), patch)
        if patches.count(grid) != count:
            grid = None
    if grid is None:
        raise _unsaid(source, "image_size", f"how its {count} patches lie")
    return tuple(g * p for g, p in zip(grid, patch, strict=True))


def _unsaid(source, name, meaning):
    return UsageError(f"{source} does not say {meaning}; give {name}")


def _pixels(dimensions, known):
    """As the source describes them; what it leaves out is what published models are given."""
    said = {ours: known[name] for name, ours in _PIXELS.items() if name in known}
    return Pixels(dimensions.image_size, dimensions.channels, **said)


def _folded(tensors, source):
    """A linear probe's BatchNorm (no affine, eps 1e-6) and Linear, as one Linear."""
    names = ("head.0.running_mean", "head.0.running_var", "head.1.weight", "head.1.bias")
    if names[0] not in tensors:
        return tensors
    missing = [name for name in names if name not in tensors]
    if missing:
        raise UsageError(f"{source} is not the weights of a linear probe: missing are {missing}")
    mean, variance, weight, bias = (np.asarray(tensors[n], np.float64) for n in names)
    rest = {n: t for n, t in tensors.items() if not n.startswith(("head.0.", "head.1."))}
    weight = weight / np.sqrt(variance + 1e-6)[None]
    return rest | {
        "head.weight": weight.astype(np.float32),
        "head.bias": (bias - weight @ mean).astype(np.float32),
    }

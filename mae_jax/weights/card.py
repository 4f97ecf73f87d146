"""The model card: a README.md with front matter, for whoever gets the files."""

import json
from typing import Any

from mae_jax import __version__
from mae_jax.pixels import Pixels
from mae_jax.weights import snippets, whitened
from mae_jax.weights.described import Weights

_LIBRARY = {"huggingface": "transformers", "timm": "timm", "onnx": "onnx", "stablehlo": "jax"}

_PRETRAINED = "pre-trained as a masked autoencoder"
_CROSS = "; hidden patches look at visible ones alone"


def text(
    weights: Weights,
    format: str,
    sums: dict[str, str],
    whitening: whitened.Fitted | None = None,
) -> str:
    """The card of weights written in a format, whose files have these hashes."""
    origin = weights.origin
    taught = origin.get("config", {}).get("train", {}).get("objective") == "distill"
    what = {
        "encoder": f"ViT encoder {'taught by another' if taught else _PRETRAINED}",
        "full": "Masked autoencoder: encoder and decoder",
        "classifier": "ViT classifier on an encoder",
    }[weights.kind]
    front = [
        "---",
        f"license: {origin.get('license') or 'unknown'}",
        f"library_name: {_LIBRARY.get(format, 'mae_jax')}",
        "pipeline_tag: "
        + ("image-classification" if weights.kind == "classifier" else "image-feature-extraction"),
        f"tags: [{'distillation' if taught else 'mae, masked-autoencoder'}, vit]",
        "---",
    ]
    d = weights.dimensions
    lines = [
        f"# {what}",
        "",
        f"Written by mae_jax {__version__} as `{format}`. {_left_out(weights)}",
        "",
        "| | |",
        "|---|---|",
        f"| images | {' x '.join(map(str, d.image_size))} pixels, {d.channels} channels |",
        f"| patches | {' x '.join(map(str, d.patch_size))} pixels |",
        f"| encoder | {d.depth} blocks, {d.width} wide, {d.heads} heads |",
    ]
    if weights.kind == "full":
        lines += [
            f"| decoder | {d.decoder_depth} blocks, {d.decoder_width} wide, "
            f"{d.decoder_heads} heads"
            f"{_CROSS if weights.decoder_attention == 'cross' else ''} |",
            f"| target | {_target(weights)}, {weights.mask_ratio:.0%} of the patches hidden |",
        ]
    lines += [
        *(["| activation | GELU by its tanh formula |"] if weights.gelu == "tanh" else []),
        f"| pixels | {pixels(weights.pixels)} |",
        f"| parameters | {sum(t.size for t in weights.tensors.values()):,} "
        f"in {len(weights.tensors)} tensors |",
        "",
        *snippets.of(weights, format),
        "",
        *_classes(weights),
        *_whitening(whitening),
        "## Where it comes from",
        "",
        *_origin(origin),
        "",
        "## Files",
        "",
        "| file | sha256 |",
        "|---|---|",
        *(f"| {name} | `{value}` |" for name, value in sums.items()),
    ]
    if "config" in origin:
        lines += ["", "## Config", "", "```json", json.dumps(origin["config"], indent=1), "```"]
    return "\n".join(front + lines) + "\n"


def _classes(weights: Weights) -> list[str]:
    if not weights.classes:
        return []
    names = (f"{number}. {name}" for number, name in enumerate(weights.classes))
    return ["## Classes", "", *names, ""]


def _whitening(fitted: whitened.Fitted | None) -> list[str]:
    if fitted is None:
        return []
    what = {"whiten": "whitened", "standardise": "standardised"}[fitted.kind]
    name = next(iter(fitted.maps))
    layers = [one.removeprefix(whitened.LAYER) for one in fitted.maps if one != "features"]
    asked = f" --layers={','.join(layers)}" if layers else ""
    product = "@" if fitted.kind == "whiten" else "*"
    return [
        f"## Features, {what}",
        "",
        f"`{whitened.FILE}` was fitted on {fitted.images:,} training images, on {fitted.output} "
        f"features, as `mae-jax embed --output={fitted.output}{asked}` gives them: "
        f"{', '.join(fitted.maps)}. `--{fitted.kind}=.` with it applies the map, or",
        "",
        "```python",
        "import numpy as np",
        "",
        f'w = np.load("{whitened.FILE}")',
        f'features = (features - w["{name}.mean"]) {product} w["{name}.matrix"]',
        "```",
        "",
    ]


def _target(weights: Weights) -> str:
    if weights.target == "tokens":
        return "tokens"
    if weights.target == "features":
        return "tokens of a teacher"
    known = {"pixels": "", "pca": "PCA coefficients of "}
    what = known.get(weights.target, f"{weights.target} of ")
    return f"{what}{'normalised' if weights.norm_pix else 'raw'} pixels"


def _left_out(weights: Weights) -> str:
    if weights.kind == "encoder":
        return "It holds the encoder; decoder and head, if there were any, are left out."
    return "It holds everything the source did."


def pixels(given: Pixels) -> str:
    """What has to be done to images before the model gets them, in words."""
    kind = "8 bits, more of them scaled down, then in 0 to 1"
    if given.floats:
        kind = "float32 in the images' own units, unsigned integers in 0 to 1"
    if given.nodata is not None:
        kind += f", NaN in pixels without data ({given.nodata})"
    return (
        f"{kind}; less {_numbers(given.mean)}, divided by {_numbers(given.std)}; evaluated on the "
        f"central {given.crop:.4g} of the shorter side"
    )


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _origin(origin: dict[str, Any]) -> list[str]:
    rows = [
        ("source", origin.get("source")),
        ("started from", origin.get("config", {}).get("init_from")),
        ("license of the source weights", origin.get("license") or "not stated"),
        ("teacher", origin.get("teacher")),
        ("license of the teacher", _teachers_license(origin)),
        ("step", _step(origin)),
        ("data", json.dumps(origin["data"]) if origin.get("data") else None),
    ]
    rows += [(f"sha256 of {name}", value) for name, value in origin.get("sha256", {}).items()]
    rows += [(name, f"{value:.4f}") for name, value in origin.get("metrics", {}).items()]
    return ["| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows if b is not None)]


def _teachers_license(origin):
    return (origin.get("teacher_license") or "not stated") if origin.get("teacher") else None


def _step(origin):
    if origin.get("step") is None:
        return None
    return f"{origin['step']} of {origin['steps']}" if origin.get("steps") else origin["step"]

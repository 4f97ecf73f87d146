"""SOURCE: a work folder, a weight file, a folder of another library or a name, as `Weights`."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import config_dict

from mae_jax.config import named
from mae_jax.config.architecture import dimension_arguments
from mae_jax.errors import UsageError
from mae_jax.models import sizes, targets
from mae_jax.pixels import Pixels
from mae_jax.train import metrics, workdir
from mae_jax.train.checkpoints import checkpoint
from mae_jax.weights import big_vision, formats, hub, huggingface, keymap, model, pickles, pth, timm
from mae_jax.weights import said as said_lib
from mae_jax.weights.described import Weights, describe

_PTH = (".pth", ".pt", ".bin", ".tar", ".ckpt")
_OURS = ("model.safetensors", "model.pth", "model.npz")
SUMS = "SHA256SUMS"


def read(
    source: str | Path, *, step: int | str | None = None, part: str = "full", **given: Any
) -> Weights:
    """The weights of any SOURCE, as they lie there.

    Args:
      source: a work folder, or one of its checkpoints; a `.pth`, `.safetensors` or `.npz` file; a
        folder of transformers' or timm's, or one that `mae-jax export` made; "hf:OWNER/NAME", or
        "hf:OWNER/NAME@REVISION", of the Hugging Face hub.
      step: which checkpoint of a work folder, as of `checkpoint.read_model`; the latest by default.
      part: "full", "encoder" for that alone, or "no_decoder".
      given: `heads`, `decoder_heads`, `norm_pix`, `image_size`, `patch_size`, where the source
        does not say them and its width does not settle them.

    Raises:
      UsageError: there is no such source, it is damaged or incomplete, or does not say enough; of
        a name, also what `hub.fetch` says.
      NoSpace: as `hub.fetch`.
    """
    if named.is_name(source):
        return _of_name(source, step, part, given)
    check_exists(source)
    path = Path(source)
    if step is None:
        path, step = _run(path)
    if (path / "checkpoints").is_dir():
        tensors, said = _work_folder(path, step)
        return _described(tensors, said, given, source, part)
    if step is not None:
        raise UsageError(f"step {step} needs a work folder, and {str(source)!r} is none")
    return _of_files(path, source, part, given)


def check_exists(source: str | Path) -> None:
    """Raises UsageError for a SOURCE that is neither there nor a name."""
    if not named.is_name(source) and not Path(source).exists():
        raise UsageError(f"{str(source)!r} does not exist; {_KNOWN}")


def _of_name(source, step, part, given):
    if step is not None:
        raise UsageError(f"step {step} needs a work folder, and {str(source)!r} is none")
    name, path = hub.fetch(source)
    try:
        return _of_files(path, name, part, given)
    except UsageError as error:
        if name in str(error):
            raise
        raise UsageError(f"{name!r}: {error}") from None  # which names a file of the cache


def _of_files(path, source, part, given):
    tensors, said, files = _folder(path) if path.is_dir() else _file(path)
    said = said_lib.checked(said, repr(str(source)))
    origin = {"license": _license(path)} | {
        name: value for name, value in said.get("origin", {}).items() if value is not None
    }
    origin |= {"source": str(source), "sha256": {f.name: _verified(f) for f in files}}
    return _described(tensors, said | {"origin": origin}, given, source, part)


def _run(path: Path) -> tuple[Path, int | None]:
    """The work folder and the step, of a path to one of its checkpoints; of another, itself."""
    if path.parent.name == "checkpoints" and path.name.isdigit():
        return path.parent.parent, int(path.name)
    return path, None


def _described(tensors, said, given, source, part):
    weights = describe(tensors, said, given, repr(str(source)), part)
    model.check_shapes(weights, repr(str(source)))
    return weights


_RUNS = 8  # that a message names, at most
_KNOWN = (
    "known are a work folder, a .pth, .safetensors or .npz file, a folder of transformers', timm's "
    "or mae-jax export's, and hf:OWNER/NAME"
)


def _folder(path):
    config = path / "config.json"
    content = said_lib.read_json(config) if config.is_file() else {}
    if "model_type" in content:
        return huggingface.read(path)
    if "architecture" in content:
        return timm.read(path)
    if "config" in content:
        raise UsageError(f"{str(path)!r} has no finished checkpoint")
    for name in _OURS:
        if (path / name).is_file():
            return _file(path / name)
    runs = sorted(place.parent.name for place in path.glob("*/checkpoints"))
    several = f"it holds several runs, {', '.join(runs[:_RUNS])}; name one of them" if runs else ""
    raise UsageError(f"{str(path)!r} holds no weights; {several or _KNOWN}")


def _file(path):
    if path.suffix == ".safetensors":
        tensors, metadata = formats.read_safetensors(path)
    elif path.suffix == ".npz":
        tensors, metadata = formats.read_npz(path)
    elif path.suffix in _PTH:
        tensors, metadata = pth.read(path)
    else:
        raise UsageError(f"{str(path)!r} is no weight file; {_KNOWN}")
    said = _arguments(pickles.as_dictionary(metadata.get("args")))
    text = metadata.get(formats.METADATA)
    if isinstance(text, str) and text:
        said |= said_lib.parsed(text, f"what {str(path)!r} says of itself")
    if any(name.startswith(("vit.", "embeddings.")) for name in tensors):
        tensors = huggingface.to_published(tensors, repr(str(path)))
    if path.suffix == ".npz" and big_vision.is_one(tensors):
        tensors, theirs = big_vision.to_published(tensors, repr(str(path)))
        said |= theirs
    return tensors, said, [path]


def _arguments(args):
    """What the reference's command line says of a run, from the Namespace in its checkpoints."""
    return {
        "norm_pix": args.get("norm_pix_loss"),
        "mask_ratio": args.get("mask_ratio"),
        "image_size": args.get("input_size"),
    }


def _work_folder(path, step):
    config, found = workdir.read_config(path), checkpoint.read_model(str(path), step)
    try:
        return _of_run(path, config_dict.ConfigDict(config), found)
    except UsageError:
        raise
    except Exception as error:  # the folder may be anybody's, and say anything
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"{str(path)!r} does not fit together: {reason}") from error


def _of_run(path, config, found):
    names = ("class_token", "mask_tokens_in_encoder", "norm_pix")
    names += ("mask_ratio", "sampling", "mask_unit", "loss_on")
    names += ("decode_ratio", "decoder_attention")
    said = {name: config.model.get(name) for name in names}  # a record may be older than a key
    target = config.model.target
    said["target"] = target if target in targets.TARGETS else "tokens"
    d = sizes.resolve(**dimension_arguments(config))
    flat = model.flat(found["params"]) | model.flat(found["tables"])  # no path is in both
    if config.train.objective == "distill":
        # The rest, which turns tokens into the teacher's, is of no use without these.
        flat = {path: value for path, value in flat.items() if path[0] == "encoder"}
    tensors = keymap.to_published(_without_batch_norm(flat))
    said |= {"heads": d.heads, "decoder_heads": d.decoder_heads}
    said |= {"image_size": d.image_size, "patch_size": d.patch_size}
    said |= Pixels.from_config(config).settings()
    measures: dict[str, float] = {}
    for line in metrics.read(path):
        if line["step"] <= found["step"]:
            measures |= line
    said["origin"] = {
        "license": _license(path),
        "teacher": config.train.teacher,
        "teacher_sha256": found["position"].get("teacher"),
        "teacher_license": _license_of(config.train.teacher),
        "source": str(path),
        "step": found["step"],
        "steps": found["position"].get("steps"),
        "data": found["position"].get("data"),
        "classes": found["position"].get("classes"),
        "metrics": {
            name: value
            for name, value in measures.items()
            if (name == "loss" or name.startswith("eval_")) and isinstance(value, int | float)
        },
        "config": config.to_dict(),
    }
    return tensors, said_lib.checked(said, repr(str(path)))


def _without_batch_norm(flat):
    """A linear probe's BatchNorm and Linear as one Linear."""
    mean, variance = (flat.pop(("head_norm", name), None) for name in ("mean", "var"))
    if mean is None:
        return flat
    kernel = flat["head", "kernel"] / np.sqrt(variance + 1e-6)[:, None]
    bias = flat["head", "bias"] - mean @ kernel
    return flat | {("head", "kernel"): kernel, ("head", "bias"): bias}


def _license(path: Path, above: tuple[Path, ...] = ()) -> str | None:
    """What a folder's card says, or what is known of the published files by their names.

    A run's is that of the weights it started from; of one from scratch, of those that taught it.
    """
    path, _ = _run(path)
    if re.match(r"mae_(pretrain|visualize|finetuned)_vit_", path.name):
        return "cc-by-nc-4.0"
    if (path / "checkpoints").is_dir():
        config = workdir.read_config(path)
        above = (*above, path.resolve())  # of a folder that says it started from itself
        started, taught = config["init_from"], config["train"]["teacher"]
        return _license_of(taught if started is None else started, above)
    return said_lib.license_of((path if path.is_dir() else path.parent) / "README.md")


def _license_of(source: Any, above: tuple[Path, ...] = ()) -> str | None:
    if named.is_name(source):
        found = hub.cached_card(source)  # reading a run asks nothing of the hub
        return said_lib.license_of(found) if found is not None else None
    known = isinstance(source, str) and Path(source).resolve() not in above
    return _license(Path(source), above) if known else None


def sha256(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verified(path):
    """The file's hash, compared with the list beside it where there is one."""
    found = sha256(path)
    listed = said_lib.listed_sums(path.parent / SUMS).get(path.name, found)
    if listed != found:
        raise UsageError(
            f"{str(path)!r} is damaged: its sha256 is {found}, and {SUMS} says {listed}"
        )
    return found

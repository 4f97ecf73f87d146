"""mae-jax export."""

from pathlib import Path
from typing import Any, Unpack

from mae_jax.commands import sources
from mae_jax.commands.verb import Flag, Verb, text


def export(
    source: str | Path,
    *,
    format: str,
    out: str | Path,
    part: str | None = None,
    license: str | None = None,
    force: bool = False,
    **reading: Unpack[sources.EncoderReading],
) -> dict[str, Any]:
    """Write weights for another library, with a card and hashes, and read them back.

    Args:
      source: of the weights: a work folder, a file, or an exported folder.
      format, out, part, license, force: as of `weights.export.export`.
      reading: as of `commands.sources.weights_of`.

    Returns:
      What was written: folder, format, part, tensors, parameters, and each file's sha256.

    Raises:
      As `weights.export.export`.
    """
    from mae_jax.weights import export as exporter

    wanted = dict(format=format, part=part)
    exporter.check(out, **wanted)
    weights = sources.weights_of(source, exporter.reads(**wanted), **reading)
    return exporter.export(weights, out, **wanted, force=force, license=license)


def _text(result):
    sums = [f"sha256       {digest}  {file}" for file, digest in result["sha256"].items()]
    return "\n".join([text({k: v for k, v in result.items() if k != "sha256"}), *sums])


VERB = Verb(
    export,
    place=5,
    usage="SOURCE --format=NAME --out=FOLDER [--part=encoder|full] [--license=NAME] [--force]",
    example="runs/digits --format=safetensors --out=digits-encoder --part=encoder",
    positionals=(sources.SOURCE,),
    flags=(
        Flag("format", "huggingface|timm|pth|npz|safetensors|onnx", "whose"),
        Flag("out", "FOLDER", "to be made"),
        Flag("part", "encoder|full", "by default as much as the format can hold"),
        Flag("license", "NAME", "of the weights, where SOURCE does not say it"),
        Flag("force", "", "take weights that are not trained, or not to the end"),
        *sources.ENCODER_FLAGS,
    ),
    computes=False,
    text=_text,
)

"""mae-jax export."""

from pathlib import Path
from typing import Any, Unpack

from mae_jax.commands import flags, sources
from mae_jax.commands.verb import Flag, Verb, text
from mae_jax.errors import UsageError


def export(
    source: str | Path,
    *,
    format: str,
    out: str | Path,
    part: str | None = None,
    license: str | None = None,
    force: bool = False,
    push: str | None = None,
    whiten: str | Path | None = None,
    standardise: str | Path | None = None,
    **reading: Unpack[sources.EncoderReading],
) -> dict[str, Any]:
    """Write weights for another library, with a card and hashes, and read them back.

    Args:
      source: of the weights: a work folder, a file, or an exported folder.
      format, out, part, license, force: as of `weights.export.export`.
      push: OWNER/NAME on the Hugging Face hub, to which what was written goes too.
      whiten, standardise: of its features, kept with it; as of `inference.whiten.of`.
      reading: as of `commands.sources.weights_of`.

    Returns:
      What was written: folder, format, part, tensors, parameters, and each file's sha256; in
      `pushed` the name that what was pushed has there.

    Raises:
      As `weights.export.export`.
      UsageError: as `weights.push.push` and `inference.whiten.of`.
    """
    from mae_jax.inference import whiten as whitening
    from mae_jax.weights import export as exporter
    from mae_jax.weights import push as pusher

    wanted = dict(format=format, part=part)
    exporter.check(out, **wanted)
    if push is not None:
        pusher.check(push)
    kept = whitening.asked(whiten=whiten, standardise=standardise)
    weights = sources.weights_of(source, exporter.reads(**wanted), **reading)
    written = exporter.export(weights, out, **wanted, force=force, license=license, whitening=kept)
    if push is None:
        return written
    try:
        return written | {"pushed": pusher.push(written["out"], push)}
    except UsageError as error:
        raise UsageError(
            f"{error}; what was to be pushed lies in {str(out)!r}, and `hf upload {push} {out}` "
            "pushes it"
        ) from None


def _text(result):
    sums = [f"sha256       {digest}  {file}" for file, digest in result["sha256"].items()]
    return "\n".join([text({k: v for k, v in result.items() if k != "sha256"}), *sums])


VERB = Verb(
    export,
    place=5,
    usage="SOURCE --format=NAME --out=FOLDER [--part=encoder|full] [--license=NAME] [--force]\n"
    "SOURCE --format=NAME --out=FOLDER --push=OWNER/NAME",
    example="runs/digits --format=safetensors --out=digits-encoder --part=encoder",
    positionals=(sources.SOURCE,),
    flags=(
        Flag("format", "huggingface|timm|pth|npz|safetensors|onnx|stablehlo", "whose"),
        Flag("out", "FOLDER", "to be made"),
        Flag("part", "encoder|full", "by default as much as the format can hold"),
        Flag("license", "NAME", "of the weights, where SOURCE does not say it"),
        Flag("force", "", "take weights that are not trained, or not to the end"),
        Flag("push", "OWNER/NAME", "on the Hugging Face hub, to upload the folder to"),
        *flags.WHITENING,
        *sources.ENCODER_FLAGS,
    ),
    computes=False,
    text=_text,
)

"""mae-jax diagnose."""

import textwrap
from pathlib import Path
from typing import Any, Unpack

from mae_jax.commands import configs, sources
from mae_jax.commands import images as images_lib
from mae_jax.commands.verb import Flag, Verb
from mae_jax.errors import UsageError


def diagnose(
    source: str | Path,
    *,
    images: str | Path | None = None,
    config: configs.Config | None = None,
    overrides: configs.Overrides = None,
    out: str | Path | None = None,
    count: int = 512,
    **reading: Unpack[sources.Reading],
) -> dict[str, Any]:
    """Say whether a model is learning, and if not, why; no labels are needed.

    Args:
      source: a run's work folder, of which most can be told, or any other weights.
      images: a folder, a prepared set or a file, instead of the run's own images; or else
      config: that names other training and held-out images.
      overrides: values of config keys, as of `commands.configs.read`.
      out, count: as of `diagnosis.diagnose.diagnose`.
      reading: as of `commands.sources.weights_of`.

    Returns:
      Findings with evidence and advice, what was measured, and where the sheet lies.

    Raises:
      As `diagnosis.diagnose.diagnose`.
    """
    from mae_jax.diagnosis import diagnose as diagnosis

    if images is not None and config is not None:
        raise UsageError("at most one of --images and --config may be given")
    if overrides and config is None:
        raise UsageError("overrides go with a config, and none is given")
    if config is not None:
        config = configs.read(config, overrides=overrides)
    weights = sources.weights_of(source, **reading)
    return diagnosis.diagnose(weights, images=images, config=config, out=out, count=count)


def _text(result):
    lines = []
    for finding in result["verdict"]:
        lines.append(f"{finding['name']}: {finding['says']}")
        lines += textwrap.wrap(finding["evidence"], 96, initial_indent="  ", subsequent_indent="  ")
        if finding["advice"]:
            lines += textwrap.wrap(
                finding["advice"], 96, initial_indent="  -> ", subsequent_indent="     "
            )
    losses = result["losses"]
    if losses is not None:
        lines += ["", "loss on hidden patches, the same masks"]
        rows = {"held-out images": losses["held_out"]}
        if losses["train"] is not None:
            rows["training images"] = losses["train"]
        rows |= losses["free"]
        lines += [f"  {name:24s} {value:.4f}" for name, value in rows.items()]
        if losses.get("bands"):
            lines += ["", "of what is hidden, predicted"]
            lines += [
                f"  {name:24s} {share:6.1%}   ({whole:.0%} of the variance)"
                for name, (share, whole) in losses["bands"].items()
            ]
    if "sheet" in result:
        lines += ["", f"{'sheet':12s} {result['sheet']}"]
    return "\n".join(lines)


VERB = Verb(
    diagnose,
    place=4,
    usage="SOURCE [--images=FOLDER|--config=FILE] [--out=FOLDER]",
    example="runs/digits --out=runs/digits/diagnosis",
    positionals=(sources.SOURCE,),
    config="optional",
    flags=(
        images_lib.IMAGES,
        Flag("out", "FOLDER", "gets diagnosis.json and a sheet of nearest neighbours"),
        Flag("count", "N", "images of each part that are looked at, at most"),
        *sources.FLAGS,
    ),
    text=_text,
)

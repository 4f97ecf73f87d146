"""mae-jax evaluate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from mae_jax.commands import configs
from mae_jax.commands import sources as sources_lib
from mae_jax.commands.verb import Flag, Verb
from mae_jax.errors import UsageError


def evaluate(
    source: str | Path,
    *,
    config: configs.Config,
    overrides: configs.Overrides = None,
    out: str | Path | None = None,
    robustness: Sequence[str] = (),
    root: str | Path | None = None,
    **reading: Unpack[sources_lib.Reading],
) -> dict[str, Any]:
    """Measure a classifier on held-out images, or on the robustness sets of ImageNet.

    Args:
      source: of the classifier.
      config: names the images.
      overrides: values of config keys, as of `commands.configs.read`.
      out: a folder for details.
      robustness: sets of `evaluation.robustness.SETS`, instead of the config's images.
      root: where their folders lie; tfds by default.
      reading: as of `commands.sources.weights_of`.

    Returns:
      Images and measures, and where details lie.

    Raises:
      As `inference.evaluation.evaluate`.
    """
    from mae_jax.inference import evaluation

    config = configs.read(config, overrides=overrides)
    weights = sources_lib.weights_to_use(source, **reading)
    if robustness:
        return evaluation.robustness(weights, config, robustness, root=root, out=out)
    if root is not None:
        raise UsageError(f"--root={root} goes with --robustness")
    return evaluation.evaluate(weights, config, out)


VERB = Verb(
    evaluate,
    place=4,
    usage="SOURCE --config=FILE [--out=FOLDER] [--robustness=NAME,… [--root=FOLDER]]",
    example="runs/digits-finetune/pretrained-0 --config=configs/digits_finetune.py",
    positionals=(sources_lib.SOURCE,),
    config="needed",
    flags=(
        Flag("out", "FOLDER", "for details: per class, confusion, calibration"),
        Flag(
            "robustness",
            "imagenet_c,imagenet_a,imagenet_r,imagenet_sketch",
            "some of these sets, instead of the config's images",
        ),
        Flag("root", "FOLDER", "where their folders lie; tfds by default"),
        *sources_lib.FLAGS,
    ),
)

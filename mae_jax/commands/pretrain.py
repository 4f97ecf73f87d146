"""mae-jax pretrain."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mae_jax.commands import configs, following
from mae_jax.commands.flags import ALLOW_CHANGE
from mae_jax.commands.verb import Verb, text
from mae_jax.config import PRETRAINING


def pretrain(
    config: configs.Config,
    workdir: str | Path,
    *,
    overrides: configs.Overrides = None,
    quiet: bool = False,
    allow_change: Sequence[str] = (),
) -> dict[str, Any]:
    """Train a masked autoencoder, or a student of another encoder; the same command again resumes.

    Args:
      config: with `train.objective` "reconstruct" or "distill".
      workdir: where everything of the run is kept.
      overrides: values of config keys, as of `commands.configs.read`.
      quiet: leave out the lines of progress.
      allow_change: as of `train.loop.run`.

    Returns:
      The last measures, and where panel, metrics and checkpoint lie.

    Raises:
      As `train.loop.run`.
    """
    from mae_jax.train import loop
    from mae_jax.weights import start, teacher

    config = configs.read(config, PRETRAINING, overrides)
    start.adopt(config, workdir)
    return loop.run(
        config,
        workdir,
        quiet=quiet,
        read_weights=start.read_weights,
        teacher=teacher.read(config, workdir),
        allow_change=allow_change,
    )


def _text(result):
    return f"{text(result)}\n{following.after_pretraining(result)}"


VERB = Verb(
    pretrain,
    place=1,
    usage="--config=FILE --workdir=FOLDER",
    example="--config=configs/digits.py --workdir=runs/digits",
    config="needed",
    keys=True,
    run=True,
    flags=(ALLOW_CHANGE,),
    text=_text,
)

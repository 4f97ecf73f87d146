"""mae-jax finetune."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mae_jax.commands import configs, following
from mae_jax.commands.flags import ALLOW_CHANGE
from mae_jax.commands.verb import Flag, Verb, text
from mae_jax.errors import UsageError


def finetune(
    config: configs.Config,
    workdir: str | Path,
    *,
    overrides: configs.Overrides = None,
    draws: int = 1,
    labels: Sequence[int | str] = (),
    blocks: Sequence[float] = (),
    baselines: bool = False,
    scratch: configs.Config | None = None,
    allow_change: Sequence[str] = (),
) -> dict[str, Any]:
    """Train a classifier on a pre-trained encoder.

    Args:
      config: with `train.objective` "classify"; `init_from` names the encoder.
      workdir: where everything of the run is kept; of several runs, each in a folder below it.
      overrides: values of config keys, as of `commands.configs.read`.
      draws: of the labels, where few are used; of the seed otherwise.
      labels: per class, or "all", to compare; what the config says by default.
      blocks: numbers of trained blocks to compare; 0.5 is the last block's MLP.
      baselines: also train the same network from scratch, and logistic regression on pixels.
      scratch: config of the run from scratch; that of the fine-tuning by default.
      allow_change: of one run, as of `train.loop.run`.

    Returns:
      Of one run what `train.loop.run` gives; of several what `studies.finetune.compare` does.

    Raises:
      As those.
    """
    from mae_jax.studies import finetune as study

    config = configs.read(config, "classify", overrides)
    if scratch is not None and not baselines:
        raise UsageError("--scratch is the recipe of a baseline; add --baselines")
    if draws == 1 and not (baselines or labels or blocks):
        return study.run(config, workdir, allow_change=allow_change)
    if allow_change:
        raise UsageError("--allow_change is of one run; a comparison needs another --workdir")
    return study.compare(
        config,
        workdir,
        draws=draws,
        labels=labels,
        blocks=blocks,
        baselines=baselines,
        scratch=None if scratch is None else configs.read(scratch, "classify"),
    )


def _text(result):
    if "accuracy" not in result:
        return f"{text(result)}\n{following.after_finetuning(result['workdir'])}"
    from mae_jax.studies import finetune as study

    rest = {name: value for name, value in result.items() if name != "accuracy"}
    lines = ["accuracy on held-out images", study.table(result["accuracy"]), text(rest)]
    runs = sorted(Path(result["comparison"]).parent.glob("*/checkpoints"))
    lines += [following.after_finetuning(runs[0].parent)] if runs else []
    return "\n".join(lines)


def _number(name, text):
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--{name}: {text!r} is not a number") from None


def _count(text):
    if text == "all":
        return text
    number = _number("labels", text)
    if number != int(number):
        raise UsageError(f"--labels: {text!r} is not a whole number")
    return int(number)


def _blocks(text):
    return _number("blocks", text)


VERB = Verb(
    finetune,
    place=2,
    usage="--config=FILE --config.init_from=SOURCE --workdir=FOLDER [--draws=N] [--baselines] …",
    example="--config=configs/digits_finetune.py --config.init_from=runs/digits "
    "--workdir=runs/digits-finetune --draws=5 --baselines",
    config="needed",
    run=True,
    flags=(
        Flag("draws", "N", "of the labels, where few are used; of the seed otherwise"),
        Flag("labels", "N,N,…", "labels per class to compare, or `all` of them", _count),
        Flag("blocks", "N,N,…", "numbers of trained blocks to compare", _blocks),
        Flag("baselines", "", "also from scratch, and logistic regression on pixels"),
        Flag("scratch", "CONFIG", "config file of the run from scratch; --scratch.KEY=VALUE too"),
        ALLOW_CHANGE,
    ),
    text=_text,
)

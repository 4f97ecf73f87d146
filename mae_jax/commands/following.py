"""What to type after a run, with the paths of that run."""

import shlex
from pathlib import Path
from typing import Any

_SMALL = 192  # as wide as the smallest network that has a name


def after_pretraining(result: dict[str, Any]) -> str:
    """What can be done with an encoder.

    Args:
      result: of `train.loop.run`.
    """
    from mae_jax.train import workdir

    run = _shown(result["workdir"])
    # Of images of one's own there are configs to go on with; of a named set those of that set.
    config = workdir.read_config(result["workdir"])
    tune, probe = ("--config=FILE",) * 2
    if config["data"]["folder"] is not None:
        small = ":small" if (config["model"]["width"] or _SMALL) < _SMALL else ""
        # Whether LABELLED is cut into train and val or not.
        data = (
            "--config.data.folder=LABELLED --config.data.split='all[:80%]' "
            "--config.data.eval_split='all[80%:]'"
        )
        tune = f"--config=configs/folder_finetune.py{small} {data}"
        probe = f"--config=configs/folder_probe.py {data}"
    return _next(
        f"probe {run} {probe} --out={_shown(result['workdir'], '-probe')}",
        f"finetune {tune} --config.init_from={run} "
        f"--workdir={_shown(result['workdir'], '-finetune')}",
        f"export {run} --format=timm --out={_shown(result['workdir'], '-timm')}",
    )


def after_finetuning(workdir: str | Path) -> str:
    """What can be done with a classifier.

    Args:
      workdir: of its run.
    """
    return _next(
        f"predict {_shown(workdir)} --images=NEW --out=classes.csv",
        f"export {_shown(workdir)} --format=timm --out={_shown(workdir, '-timm')}",
    )


def _next(*commands: str) -> str:
    return "\n".join(
        [
            "next, with your own names in the place of capitals:",
            *(f"  mae-jax {command}" for command in commands),
        ]
    )


def _shown(path: str | Path, added: str = "") -> str:
    """A path as it is typed here: relative where it lies below the working folder."""
    path = Path(f"{path}{added}")
    below = path.is_relative_to(Path.cwd()) and path != Path.cwd()
    return shlex.quote(str(path.relative_to(Path.cwd()) if below else path))

"""mae-jax sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mae_jax.commands import configs
from mae_jax.commands.verb import Flag, Verb, text
from mae_jax.errors import UsageError
from mae_jax.studies import grid as grids


def sweep(
    config: configs.Config,
    workdir: str | Path,
    *,
    grid: Mapping[str, grids.Values] | None = None,
    seeds: int = 1,
    then: Sequence[configs.Config] = (),
    index: int | None = None,
    of: int | None = None,
    wait: bool = True,
    extend: bool = False,
    rerun_diverged: bool = False,
) -> dict[str, Any]:
    """Pre-train under every setting of a grid; fine-tune and probe each.

    Args:
      config: of the pre-training, with `train.objective` "reconstruct".
      workdir: gets a folder for every setting and seed, the table and the plot.
      grid: values of config keys, by the keys' names.
      seeds: of each setting, counted from the config's.
      then: configs of what is done with each encoder, with `train.objective` "classify" or
        "probe"; their data, where they name none, is that of the pre-training.
      index, of, wait, extend, rerun_diverged: as of `studies.sweep.run`.

    Returns:
      As that.

    Raises:
      As that.
    """
    from mae_jax.studies import sweep

    return sweep.run(
        configs.read(config, "reconstruct"),
        workdir,
        values=grid or {},
        seeds=seeds,
        then=_named(then),
        index=index,
        of=of,
        wait=wait,
        extend=extend,
        rerun_diverged=rerun_diverged,
    )


def _named(then):
    """Configs by the names of their files, or by what they do where there is no file."""
    found: dict[str, Any] = {}
    for given in then:
        config = configs.read(given)
        if isinstance(given, str | Path):
            path, _, argument = str(given).partition(":")
            name = "-".join(filter(None, (Path(path).stem, argument)))
        else:
            name = {"classify": "finetune"}.get(config.train.objective, config.train.objective)
        if name in found or name == "pretrain":
            raise UsageError(f"--then: {name!r} is there already; give the file another name")
        found[name] = config
    return found


def _text(result):
    from mae_jax.studies import sweep

    rest = {name: value for name, value in result.items() if name != "rows"}
    missing = rest.pop("missing")
    return f"{sweep.markdown(result['rows'], missing)}\n\n{text(rest)}"


VERB = Verb(
    sweep,
    place=4,
    usage="--config=FILE --grid KEY=VALUE,… [--grid …] [--seeds=N] [--then=CONFIG,…] "
    "--workdir=FOLDER",
    example="--config=configs/digits.py --grid model.mask_ratio=.5,.75,.9 "
    "--grid model.norm_pix=True,False --seeds=3 --then=configs/digits_finetune.py "
    "--workdir=runs/ratios",
    config="needed",
    run=True,
    flags=(
        Flag("grid", "KEY=V,V,…", "values of a config key; once for every key", grids.read),
        Flag("seeds", "N", "of every setting"),
        Flag("then", "CONFIG,…", "config files of what is done with each encoder"),
        Flag("index", "I", "with --of: which share of the runs is this process's, from 0"),
        Flag("of", "N", "how many processes divide the runs by their numbers"),
        Flag("wait", "", "for runs that other processes are at, and then show the whole table"),
        Flag("extend", "", "add values, seeds or configs to the sweep that FOLDER holds"),
        Flag("rerun_diverged", "", "try again what diverged"),
    ),
    text=_text,
)

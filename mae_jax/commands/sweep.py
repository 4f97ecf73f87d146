"""mae-jax sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mae_jax.commands import configs
from mae_jax.commands.verb import Flag, Verb, text
from mae_jax.config import PRETRAINING
from mae_jax.errors import UsageError
from mae_jax.studies import grid as grids


def sweep(
    config: configs.Config,
    workdir: str | Path,
    *,
    overrides: configs.Overrides = None,
    grid: Mapping[str, grids.Values] | None = None,
    seeds: int = 1,
    then: Sequence[configs.Config] = (),
    index: int | None = None,
    of: int | None = None,
    wait: bool = True,
    extend: bool = False,
    rerun_diverged: bool = False,
    search: int | None = None,
    storage: str | None = None,
) -> dict[str, Any]:
    """Pre-train under every setting of a grid, or search; fine-tune and probe each.

    Args:
      config: of the pre-training, with `train.objective` "reconstruct" or "distill".
      workdir: gets a folder for every setting and seed, the table and the plot.
      overrides: values of config keys, as of `commands.configs.read`.
      grid: values of config keys, by the keys' names.
      seeds: of each setting, counted from the config's.
      then: configs of what is done with each encoder, with `train.objective` "classify" or
        "probe"; their data, where they name none, is that of the pre-training.
      index, of, wait, extend, rerun_diverged: as of `studies.sweep.run`.
      search: try so many settings instead of all, which Optuna chooses; values of the grid may
        then be a `studies.grid.Range`.
      storage: as of `studies.search.run`.

    Returns:
      As `studies.sweep.run`; of a search as `studies.search.run`.

    Raises:
      As those.
    """
    from mae_jax.studies import sweep

    config = configs.read(config, PRETRAINING, overrides)
    named, values = _named(then), grid or {}
    if search is not None:
        grids_own = dict(index=index, of=of, extend=extend, rerun_diverged=rerun_diverged)
        for name, value in grids_own.items():
            if value is not None and value is not False:
                raise UsageError(f"--{name} is for a grid, and does not go with --search")
        if seeds != 1:
            raise UsageError(
                f"--seeds={seeds} does not go with --search, which tries every setting once; give "
                "the best of them to --grid, with seeds"
            )
        from mae_jax.studies import search as searching

        return searching.run(
            config, workdir, values=values, count=search, then=named, storage=storage, wait=wait
        )
    if storage is not None:
        raise UsageError(f"--storage={storage} goes with --search, which is not given")
    return sweep.run(
        config,
        workdir,
        values=values,
        seeds=seeds,
        then=named,
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

    rest = {name: value for name, value in result.items() if name not in ("rows", "best")}
    missing = rest.pop("missing")
    best = [sweep.markdown([result["best"]])] if result.get("best") else []
    parts = [sweep.markdown(result["rows"], missing), *(f"the best\n{one}" for one in best)]
    return "\n\n".join([*parts, text(rest)])


VERB = Verb(
    sweep,
    place=3,
    usage="--config=FILE --grid KEY=VALUE,… [--grid …] [--seeds=N] [--then=CONFIG,…] "
    "--workdir=FOLDER\n"
    "--config=FILE --grid KEY=LOW..HIGH[:log] … --search=N [--storage=URL] [--then=CONFIG,…] "
    "--workdir=FOLDER",
    example="--config=configs/digits.py --grid model.mask_ratio=.5,.75,.9 "
    "--grid model.norm_pix=True,False --seeds=3 --then=configs/digits_finetune.py "
    "--workdir=runs/ratios",
    config="needed",
    run=True,
    flags=(
        Flag(
            "grid",
            "KEY=V,V,…",
            "values of a config key; once for every key; with --search also KEY=LOW..HIGH, or "
            "KEY=LOW..HIGH:log, evenly in the logarithm",
            grids.read,
        ),
        Flag("seeds", "N", "of every setting"),
        Flag("then", "CONFIG,…", "config files of what is done with each encoder"),
        Flag("index", "I", "with --of: which share of the runs is this process's, from 0"),
        Flag("of", "N", "how many processes divide the runs by their numbers"),
        Flag("wait", "", "for runs that other processes are at, and then show the whole table"),
        Flag("extend", "", "add values, seeds or configs to the sweep that FOLDER holds"),
        Flag("rerun_diverged", "", "try again what diverged"),
        Flag("search", "N", "try N settings that Optuna chooses, and give up bad ones"),
        Flag(
            "storage",
            "URL",
            "of a search: a database, or grpc://HOST:PORT of Optuna's proxy; a file in FOLDER else",
        ),
    ),
    text=_text,
)

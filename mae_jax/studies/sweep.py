"""Pre-training under every setting of a grid, and what the encoders are good for."""

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mae_jax import hosts
from mae_jax.config import default_config, flatten, overrides
from mae_jax.errors import UsageError
from mae_jax.studies import agreement, claims, division, grid, pipeline, study
from mae_jax.studies.pipeline import Pipeline
from mae_jax.train import compilation
from mae_jax.visualize import curves


def run(
    config,
    folder: str | Path,
    *,
    values: Mapping[str, grid.Values],
    seeds: int = 1,
    then: Mapping[str, Any],
    index: int | None = None,
    of: int | None = None,
    wait: bool = True,
    extend: bool = False,
    rerun_diverged: bool = False,
) -> dict[str, Any]:
    """Pre-trains with every combination of values and every seed, then fine-tunes and probes.

    Any number of processes that share the folder may call this with the same arguments: they
    divide the trials, and the table is the same whoever measured what.

    Args:
      config: of the pre-training.
      folder: gets `sweep.json`, a folder for every trial, and what `studies.study` writes.
      values: of config keys.
      seeds: how many, counted from the config's.
      then: configs of what is done with the encoders, by name; see `Pipeline`.
      index, of, wait: as of `Division`.
      extend: add to the sweep that the folder holds.
      rerun_diverged: try again what diverged.

    Returns:
      The rows, as of `study.run`; how many trials are `missing`, which others are at or have still
      to do; where table and plot lie.

    Raises:
      UsageError: a setting that cannot work, before anything is trained; another sweep's folder.
      Preempted, and what `train.loop.run` raises: the same call goes on.
    """
    folder = Path(folder).absolute()
    division.share(index, of)
    wanted = described(config, grid.checked(values), seeds, then)
    agreed = None
    while agreed is None:  # others may begin or extend the same sweep at the same time
        found = hosts.from_first(lambda: agreement.settled(folder, wanted, extend=extend))
        # In one order, whatever that of --then and of extensions was.
        stages = Pipeline(config, {n: _config(tree) for n, tree in sorted(found["then"].items())})
        settings = list(grid.settings(grid.checked(found["grid"])))
        checked = stages.check(settings)
        agreed = hosts.from_first(
            lambda found=found: agreement.record(folder, found, wanted=wanted, extend=extend)
        )
    trials = [
        _trial(stages, setting, seed, *facts)
        for setting, facts in zip(settings, checked, strict=True)
        for seed in range(agreed["seeds"])
    ]
    if rerun_diverged and hosts.is_first():
        _forget_diverged(folder, trials)
    turns = _Turns(trials, folder, agreed, index=index, of=of, wait=wait)
    compilation.keep(folder / ".programs")
    study.run(turns, len(trials), folder)
    return publish(turns, len(trials), folder)


def publish(turns: study.Turns, total: int, folder: Path) -> dict[str, Any]:
    """Writes the table and the plot of all that was measured; returns the rows, and where."""
    drawn = None
    with turns.publishing() as ours:
        ended = turns.ended()
        rows, missing = study.rows(ended), max(0, total - len(ended))
        if ours:
            study.write(folder / study.JSON, json.dumps(rows, indent=1) + "\n")
            drawn = study.save(
                folder, markdown(rows, missing), functools.partial(curves.over, rows)
            )
    return {
        "rows": rows,
        "missing": missing,
        "comparison": str(folder / study.MARKDOWN),
        "plot": drawn,
    }


def described(config, values, seeds, then, *, search: bool = False) -> dict[str, Any]:
    """What makes a sweep this one, as JSON can hold it.

    Raises:
      UsageError: not one seed; what is done then is unclear.
    """
    if seeds < 1:
        raise UsageError(f"--seeds={seeds} must be at least 1")
    for name, one in then.items():
        kind = one.train.objective
        if kind not in ("classify", "probe"):
            raise UsageError(
                f"--then {name}: train.objective is {kind!r}, and after pre-training comes "
                "'classify', which fine-tunes, or 'probe', a linear probe"
            )
        if one.init_from is not None:
            raise UsageError(
                f"--then {name}: init_from is {one.init_from!r}; leave it out, as every encoder of "
                "the sweep takes its place"
            )
    return {
        "config": config.to_dict(),
        "grid": {
            name: str(of_it) if isinstance(of_it, grid.Range) else list(of_it)
            for name, of_it in values.items()
        },
        "seeds": seeds,
        "then": {name: one.to_dict() for name, one in then.items()},
        "search": search,
    }


class _Turns(division.Division):
    """Those of a sweep that may be extended while processes are at it."""

    def __init__(self, trials, folder, agreed, **options):
        super().__init__(trials, folder, **options)
        self._agreed = agreed

    @contextlib.contextmanager
    def publishing(self) -> Iterator[bool]:
        with super().publishing() as ours:
            # Once the sweep was extended, the table of what it was is not all of it.
            yield ours and agreement.same(agreement.read(self._folder), self._agreed)


def _trial(stages, setting, seed, columns, data) -> study.Trial:
    return study.Trial(
        json.loads(json.dumps(setting)),
        seed,
        f"{grid.name(setting)}/seed={seed}",
        functools.partial(stages.measure, setting, seed, columns, data),
        columns=True,
        kept=functools.partial(stages.kept, columns, data),
    )


def _forget_diverged(folder, trials):
    for trial in trials:
        where = folder / trial.name
        if trial.kept(where) is not None:
            try:
                with claims.claim(where / division.CLAIM) as ours:
                    if ours:
                        pipeline.forget_diverged(where)
            except claims.NoLocks:
                pipeline.forget_diverged(where)


def _config(tree: dict[str, Any]):
    """A config of what JSON made of it."""
    config = default_config()
    overrides.apply(config, {name: _tuple(value) for name, value in flatten(tree).items()})
    return config


def _tuple(value):
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def markdown(rows: list[dict[str, Any]], missing: int = 0) -> str:
    """The table of a sweep, and how many of its trials are not in it."""
    keys = [
        name for name, value in (rows[0] if rows else {}).items() if not isinstance(value, dict)
    ]
    columns = dict.fromkeys(n for row in rows for n, v in row.items() if isinstance(v, dict))
    table = study.markdown(
        [*keys, *columns],
        [
            [
                *(grid.shown(row[key]) for key in keys),
                *(study.percent(row[column]) if column in row else "" for column in columns),
            ]
            for row in rows
        ],
    )
    return table + (f"\n\n{missing} trials are still to be measured." if missing else "")

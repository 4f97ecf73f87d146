"""mae-jax probe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mae_jax.commands import configs, flags
from mae_jax.commands.verb import Flag, Positional, Verb, text
from mae_jax.errors import UsageError


def probe(
    sources: Sequence[str] = (),
    *,
    config: configs.Config,
    overrides: configs.Overrides = None,
    out: str | Path | None = None,
    workdir: str | Path | None = None,
    methods: Sequence[str] = ("logistic", "knn"),
    output: str | None = None,
    draws: int = 1,
    heads: int | None = None,
    layers: Sequence[int] | None = None,
    whiten: bool = False,
    standardise: bool = False,
    queries: int | None = None,
    allow_change: Sequence[str] = (),
) -> dict[str, Any]:
    """Compare frozen encoders on the same labelled images, or train one linear probe.

    Args:
      sources: encoders to compare.
      config: names the data and what the probes need.
      overrides: values of config keys, as of `commands.configs.read`.
      out: of a comparison: a folder for its table and plot.
      workdir: of one linear probe instead, of the config's `init_from`.
      methods, output, draws, heads, layers, whiten, standardise, queries: as of
        `studies.probe.compare`.
      allow_change: of one probe, as of `train.loop.run`.

    Returns:
      A row per encoder, and layer, and where table and plot lie; of one probe what
      `train.loop.run` gives.

    Raises:
      As those.
    """
    from mae_jax.studies import finetune, probe

    if workdir is not None:
        if sources:
            raise UsageError(
                "--workdir trains one probe, of --config.init_from; to compare SOURCEs give --out"
            )
        config = configs.read(config, "probe", overrides)
        return finetune.run(config, workdir, allow_change=allow_change)
    if allow_change:
        raise UsageError("--allow_change is of one probe, which goes with --workdir")
    if out is None:
        raise UsageError("--out is missing; or --workdir, to train one linear probe")
    return probe.compare(
        sources,
        configs.read(config, overrides=overrides),
        out,
        methods=methods,
        output=output,
        draws=draws,
        heads=heads,
        layers=layers,
        whiten=whiten,
        standardise=standardise,
        queries=queries,
    )


def _text(result):
    if "encoders" not in result:
        return text(result)
    from mae_jax.studies import probe

    rest = {name: value for name, value in result.items() if name != "encoders"}
    return f"accuracy on held-out images\n{probe.markdown(result['encoders'])}\n{text(rest)}"


VERB = Verb(
    probe,
    place=3,
    usage="SOURCE [SOURCE …] --config=FILE --out=FOLDER [--methods=…] …\n"
    "--config=FILE --config.init_from=SOURCE --workdir=FOLDER",
    example="runs/digits --config=configs/digits_probe.py --out=runs/compared",
    positionals=(Positional("sources", "SOURCE …", "encoders to compare", many=True),),
    config="needed",
    run=True,
    flags=(
        Flag("out", "FOLDER", "for the table and the plot of a comparison"),
        Flag(
            "methods",
            "logistic,logistic_whitened,knn,knn_centred,knn_standardised,knn_whitened,attentive,"
            "linear",
            "some of these",
        ),
        flags.LAYERS,
        Flag("whiten", "", "also knn and logistic on features of equal variance in all directions"),
        Flag("standardise", "", "also knn on features each of which has equal variance"),
        Flag("queries", "N", "of the attentive probe"),
        Flag(
            "output", "token|mean", "of the encoder; by default the class token, where it has one"
        ),
        Flag("draws", "N", "of few labels"),
        Flag("heads", "N", "attention heads, where a SOURCE does not say it"),
        flags.ALLOW_CHANGE,
    ),
    text=_text,
)

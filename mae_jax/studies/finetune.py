"""Fine-tuning over label counts, trained blocks and draws, beside what it must beat."""

import dataclasses
import functools
import importlib.util
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.config.architecture import adopt_architecture
from mae_jax.data import few, sources
from mae_jax.errors import UsageError
from mae_jax.inference.views import views
from mae_jax.pixels import Pixels
from mae_jax.studies import study
from mae_jax.studies.remaining import Work, share_left
from mae_jax.train import loop, workdir
from mae_jax.visualize import curves
from mae_jax.weights import start

ALL = "all"
_BATCH = 256


def run(
    config, folder: str | Path, *, quiet: bool = False, allow_change: Sequence[str] = ()
) -> dict[str, Any]:
    """One run of a classifier or a linear probe, from what `init_from` names or from scratch.

    Args:
      config, folder, quiet, allow_change: as of `train.loop.run`.

    Raises:
      UsageError: as `weights.start.adopt` and `train.loop.run`; the rest of the latter, too.
    """
    start.adopt(config, folder)
    return loop.run(
        config,
        folder,
        quiet=quiet,
        read_weights=start.read_weights,
        allow_change=allow_change,
    )


def compare(
    config,
    folder: str | Path,
    *,
    draws: int = 1,
    labels: Sequence[int | str] = (),
    blocks: Sequence[float] = (),
    baselines: bool = False,
    scratch: Any = None,
) -> dict[str, Any]:
    """Fine-tunes for every setting and draw, and reports accuracy on held-out images.

    A draw is of the labels; where all labels are used, of the seed instead.

    Args:
      config: of the fine-tuning; `data.eval_split` must be set.
      folder: gets a work folder for every run, and what `studies.study` writes.
      draws: how many, numbered from `data.label_draw`.
      labels: per class, or "all"; none of them is what the config says.
      blocks: settings of `train.trained_blocks`; none is what the config says.
      baselines: also train the same network from scratch, and logistic regression on pixels.
      scratch: config of the run from scratch; that of the fine-tuning by default.

    Returns:
      For every setting its row, as of `study.run`, and where table and plot lie.

    Raises:
      UsageError: the config names no held-out images, besides what `run` raises.
      Diverged: all of it did; what diverged beside others is noted in its row.
    """
    _check(config, draws, labels, blocks, baselines)
    config = config.copy_and_resolve_references()
    start.pin(config, sorted(Path(folder).glob("pretrained*/")))  # every trial has the same encoder
    first = config.data.label_draw
    trials = [
        _trial(_Setting(method, count, trained), draw, config, scratch)
        for count, trained, draw in itertools.product(
            labels or [None], blocks or [None], range(first, first + draws)
        )
        for method in _methods(config, baselines, trained)
    ]
    work = [_work(trial, config, scratch, Path(folder)) for trial in trials]
    rows = study.run(trials, len(trials), folder, work)
    plot = functools.partial(curves.draw, rows) if labels or blocks else None
    return {
        "accuracy": rows,
        "comparison": str(Path(folder).absolute() / study.MARKDOWN),
        "plot": study.save(folder, markdown(rows), plot),
    }


@dataclasses.dataclass(frozen=True)
class _Setting:
    """What a row of the table stands for; None is what the config says."""

    method: str
    labels: int | str | None
    blocks: float | None

    def folder(self, draw: int) -> str:
        name = [self.method]
        name += [] if self.labels is None else [f"labels{self.labels}"]
        name += [] if self.blocks is None else [f"blocks{self.blocks:g}"]
        return "-".join([*name, str(draw)])


def _trial(setting, draw, config, scratch) -> study.Trial:
    own = setting.method == "scratch" and scratch is not None
    one = _config(scratch if own else config, config, setting, draw)
    pretrained = dataclasses.replace(setting, method="pretrained").folder(draw)

    def measure(where):
        if setting.method == "pretrained":
            return {"accuracy": accuracy_of(run(one, where, quiet=True))}
        # The same network, and the same pixels, as that beside it got from `init_from`.
        beside = where.with_name(pretrained)
        if config.init_from is not None and (beside / "config.json").is_file():
            adopted = one.copy_and_resolve_references()
            adopt_architecture(adopted, workdir.read_config(beside))
            one.update({"data": adopted.data} if own else adopted)
        if setting.method == "pixels":
            return {"accuracy": _logistic_regression(one)}
        return {"accuracy": accuracy_of(run(one, where, quiet=True))}

    return study.Trial(dataclasses.asdict(setting), draw, setting.folder(draw), measure)


def _work(trial, config, scratch, folder: Path) -> Work:
    kind = dict(trial.row)
    if kind["method"] == "pixels":
        return Work(json.dumps(kind))
    own = kind["method"] == "scratch" and scratch is not None
    steps = (scratch if own else config).train.steps
    if steps is not None:
        del kind["labels"]  # which only epochs make longer
    return Work(json.dumps(kind), share_left(folder / trial.name, steps))


def accuracy_of(summary: dict[str, Any]) -> float:
    """A run's accuracy on held-out images: of the moving average, where it keeps one."""
    measures = summary["measures"]
    return measures.get("eval_ema_accuracy", measures["eval_accuracy"])


def _check(config, draws, labels, blocks, baselines):
    if config.data.eval_split is None:
        raise UsageError("a comparison needs data.eval_split, and it is not set")
    if draws < 1:
        raise UsageError(f"--draws={draws} must be at least 1")
    if baselines and importlib.util.find_spec("sklearn") is None:
        raise UsageError("--baselines needs scikit-learn; pip install 'mae_jax[digits]'")
    if blocks and config.init_from is None:
        raise UsageError("--blocks needs --config.init_from: a frozen encoder must know something")
    for count in labels:
        if count != ALL and (not isinstance(count, int) or count < 1):
            raise UsageError(f"--labels={count} must be at least 1, or {ALL}")


def _methods(config, baselines, trained):
    if trained is not None:  # what comes from scratch has no use for frozen blocks
        return ["pretrained"]
    methods = ["pretrained"] if config.init_from else ["scratch"]
    return methods + [m for m in ("scratch", "pixels") if baselines and m not in methods]


def _config(one, config, setting, draw):
    """The config of a trial.

    Args:
      one: what it is made from: `config`, or that of the run from scratch.
    """
    one = one.copy_and_resolve_references()
    one.data.label_draw = draw
    if setting.method != "pretrained":
        one.init_from, one.init_channels = None, ()
        one.train.settle_epochs, one.train.settle_steps = 0.0, None
        for name in ("name", "folder", "mixture", "labels", "dir", "split", "eval_split"):
            one.data[name] = config.data[name]
    if setting.labels is not None:
        one.data.labels_per_class = None if setting.labels == ALL else setting.labels
        one.data.labels_share = None
    else:
        one.data.labels_per_class = config.data.labels_per_class
        one.data.labels_share = config.data.labels_share
    if one.data.labels_per_class is None and one.data.labels_share is None:
        one.seed = config.seed + draw
    if setting.blocks is not None:
        one.train.trained_blocks = float(setting.blocks)
    return one


def _logistic_regression(config) -> float:
    from sklearn.linear_model import LogisticRegression

    pixels, share = Pixels.from_config(config), config.data.broken_share
    data = config.data
    train = sources.labelled(sources.open_source(data, data.split))
    held_out = sources.labelled(sources.open_source(data, data.eval_split, train.classes))
    train = few.few_labels(train, data)
    model = LogisticRegression(max_iter=1000).fit(*_numbers(train, pixels, share))
    return float(model.score(*_numbers(held_out, pixels, share)))


def _numbers(source, pixels, broken_share):
    """All values of every image in a row, and labels; uint8 in 0 to 1, others standardised."""
    parts = list(views(source, pixels, range(len(source)), _BATCH, broken_share=broken_share))
    images = np.concatenate([part.images[part.sound] for part in parts])
    labels = np.concatenate([part.labels[part.sound] for part in parts])
    if pixels.floats:
        images = (images - np.float32(pixels.mean)) / np.float32(pixels.std)
        images[np.isnan(images)] = 0  # pixels without data, as a network is given them
    else:
        images = images / np.float32(255)
    return images.reshape(len(images), -1), labels


TITLES = {
    "pretrained": "from the pre-trained encoder",
    "scratch": "the same network from scratch",
    "pixels": "logistic regression on pixels",
}


def _columns(rows) -> list[tuple[str, Callable[[dict[str, Any]], str]]]:
    """Title and text of the settings that the table tells apart."""
    columns = [("method", lambda row: TITLES[row["method"]])]
    if any(row["labels"] is not None for row in rows):
        columns.append(("labels per class", lambda row: str(row["labels"] or "")))
    if any(row["blocks"] is not None for row in rows):
        columns.append(
            ("trained blocks", lambda row: "" if row["blocks"] is None else f"{row['blocks']:g}")
        )
    return columns


def table(rows: list[dict[str, Any]]) -> str:
    """The accuracies of a comparison as lines of text."""
    lines, forms = [], {"method": "{:30s}", "labels per class": "{:>5} labels"}
    for row in rows:
        parts = [forms.get(t, "{:>4} blocks").format(cell(row)) for t, cell in _columns(rows)]
        lines.append("  ".join([*parts, study.percent(row, 5)]))
    return "\n".join(lines)


def markdown(rows: list[dict[str, Any]]) -> str:
    """The same as a table of Markdown."""
    columns = _columns(rows)
    return study.markdown(
        [*(title for title, _ in columns), "accuracy"],
        [[*(cell(row) for _, cell in columns), study.percent(row)] for row in rows],
    )

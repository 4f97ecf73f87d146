"""Runs in words: what was run, how far it is, what came out."""

import datetime
import math
from typing import Any

from mae_jax.reports import curves, figures
from mae_jax.reports.read import Run
from mae_jax.reports.settings import shown

_TASKS = {
    "reconstruct": "A masked autoencoder is pre-trained",
    "distill": "An encoder is taught by another",
    "classify": "A classifier is trained",
    "probe": "A linear probe is trained",
}
# From the most telling on.
_OUTCOMES = (
    "eval_ema_accuracy", "eval_accuracy", "eval_knn_accuracy", "eval_ema_loss", "eval_loss",
)  # fmt: skip


def number(value: float, name: str = "") -> str:
    """A measure with what it is worth telling of it; in percent where its name says a share."""
    if not math.isfinite(value):
        return "not finite"
    return f"{100 * value:.1f} %" if curves.is_share(name) else f"{value:.4g}"


def about(run: Run) -> list[str]:
    """Paragraphs on a run."""
    return [f"{_task(run)} {progress(run)}", outcome(run), *_written(run)]


def progress(run: Run) -> str:
    """How far a run is, in a sentence."""
    if not run.step:
        return "No step is recorded yet."
    if run.steps is None:
        return f"It has come to step {run.step}; of how many is not known yet."
    if run.step >= run.steps:
        return f"It is complete: all {run.steps} steps were made."
    share = run.step / run.steps
    return f"It has come to step {run.step} of {run.steps} ({share:.0%})."


def outcome(run: Run) -> str:
    """What came out, in sentences."""
    parts = []
    for name in (*_OUTCOMES, "loss"):
        if run.last(name) is None:
            continue
        (first, before), (step, value) = run.series[name][0], run.last(name)
        text = f"{curves.title(name)} {number(value, name)} at step {step}"
        parts.append(text if first == step else f"{text} ({number(before, name)} at step {first})")
    if not parts:
        return "Nothing was measured yet."
    lost = run.last("loss") is not None and not math.isfinite(run.last("loss")[1])
    more = " The loss is no longer finite: the run has diverged." if lost else ""
    return f"{figures.heading(', '.join(parts))}.{more}"


def _task(run: Run) -> str:
    config = run.config
    if not config:
        return "A run whose settings are not known."
    task = str(config.get("train.objective", "reconstruct"))
    text = _TASKS.get(task, f"A run with the objective {task}") + f" on {_data(config)}"
    source = config.get("init_from")
    if source:
        whole = task == "reconstruct" and config.get("init_part") != "encoder"
        text += f", starting from {'' if whole else 'the encoder of '}{shown(source)}"
    elif task == "classify":
        text += ", from scratch"
    if config.get("train.teacher"):
        text += f", taught by {shown(config['train.teacher'])}"
    parts = []
    if task == "reconstruct" and isinstance(config.get("model.mask_ratio"), int | float):
        parts.append(f"{config['model.mask_ratio']:.0%} of the patches are hidden")
    if config.get("model.width") is None and config.get("model.size") is not None:
        parts.append(f"size {config['model.size']}")
    for name in ("width", "depth"):
        if config.get(f"model.{name}") is not None:
            parts.append(f"{name} {config[f'model.{name}']}")
    for name, title in (("patch_size", "patches of"), ("image_size", "images of")):
        sides = config.get(f"model.{name}")
        if isinstance(sides, list) and sides:
            by = " by ".join(map(str, sides if len(sides) > 1 else sides * 2))
            parts.append(f"{title} {by}")
    return f"{text} ({', '.join(parts)})." if parts else f"{text}."


def _data(config: dict[str, Any]) -> str:
    mixture = config.get("data.mixture")
    source = config.get("data.name") or config.get("data.folder")
    if not source and isinstance(mixture, list) and mixture:
        source = f"a mixture of {len(mixture)} sets"
    text = f"{shown(source or 'unnamed data')}, part {shown(config.get('data.split'))}"
    if config.get("data.labels_per_class") is not None:
        text += f", {shown(config['data.labels_per_class'])} labels a class"
    if config.get("data.labels_share") is not None:
        text += f", {shown(config['data.labels_share'])} of the labels"
    return text


def _written(run: Run) -> list[str]:
    try:
        seconds = (run.folder / "metrics.jsonl").stat().st_mtime
    except OSError:
        return []
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return [f"Its metrics were last written on {when:%Y-%m-%d at %H:%M} UTC."]

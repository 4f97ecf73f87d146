"""Which checkpoints a run keeps, and why; which of them is the best."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mae_jax import storage


def smaller_is_better(measure: str) -> bool:
    """Of a measure's name: losses and errors are to be small, all others large."""
    return measure.endswith(("loss", "error"))


def policy(settings: Mapping[str, Any]) -> Any:
    """Orbax's, which keeps a checkpoint for any of the `reasons`.

    Args:
      settings: the section `checkpoint` of a config; of an older version's too.
    """
    from orbax.checkpoint import checkpoint_managers as orbax  # not above: it brings jax

    keep, every, measure = _settings(settings)
    found = [orbax.LatestN(keep)]
    if every is not None:
        found.append(orbax.EveryNSteps(every))
    if measure is not None:
        found.append(
            orbax.BestN(
                get_metric_fn=lambda measures: _rank(measures, measure),
                n=1,
                keep_checkpoints_without_metrics=False,
            )
        )
    return orbax.AnyPreservationPolicy(found)


def reasons(folder: Path, steps: Sequence[int], settings: Mapping[str, Any]) -> dict[int, list]:
    """Why each of a folder's checkpoints is kept; one without a reason goes with the next save."""
    keep, every, measure = _settings(settings)
    found: dict[int, list[str]] = {step: [] for step in steps}
    for step in steps[-keep:]:
        found[step].append(f"the latest {keep}" if keep > 1 else "the latest")
    for step in steps:
        if every is not None and step % every == 0:
            found[step].append(f"every {every} steps")
    if measure is not None and (step := best(folder, steps, measure)) is not None:
        found[step].append(f"the best {measure}")
    return found


def _settings(settings):
    return (settings.get(name) for name in ("keep", "keep_every_steps", "keep_best"))


def best(folder: Path, steps: Sequence[int], measure: str) -> int | None:
    """The step of the best checkpoint by a measure, the later of equal ones; None if unmeasured."""
    found = {step: measures(folder / str(step)) for step in steps}
    ranked = [step for step in steps if math.isfinite(_rank(found[step], measure))]
    return max(ranked, key=lambda step: (_rank(found[step], measure), step), default=None)


def measures(checkpoint: Path) -> dict[str, float] | None:
    """What was measured of the state in a checkpoint; None if nothing was, or none can be read."""
    path = checkpoint / "position" / "metadata"
    try:
        text = storage.patiently(f"reading {path}", path.read_bytes)
        return json.loads(text).get("measures") or None
    except (FileNotFoundError, ValueError, AttributeError):
        return None


def _rank(found, measure) -> float:
    """Larger is better; what was not measured comes last."""
    value = (found or {}).get(measure)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return -math.inf
    return -value if smaller_is_better(measure) else value

"""What a run has written about itself, as far as a diagnosis needs it."""

import dataclasses
from pathlib import Path

from mae_jax.train import metrics


@dataclasses.dataclass(frozen=True)
class History:
    """Attributes:
    steps: that were made, of `planned`.
    records: training images; None where that is not known.
    skipped: steps without an update, as loss or gradient were not finite.
    rose: whether the loss ended well above its lowest, or was no number.
    """

    steps: int
    planned: int | None
    records: int | None
    skipped: int
    rose: bool


_ROSE = 1.3  # the last losses over the lowest


def of_run(folder: str | Path, step: int, planned: int | None, records: int | None) -> History:
    """The history of a run up to a step."""
    lines = [line for line in metrics.read(folder) if line["step"] <= step]
    losses = [line["loss"] for line in lines if "loss" in line]
    numbers = [loss for loss in losses if loss is not None]
    smooth = [sum(numbers[at : at + 5]) / len(numbers[at : at + 5]) for at in range(len(numbers))]
    rose = len(numbers) < len(losses)
    if len(smooth) > 5:
        smooth = smooth[:-4]
        rose = rose or smooth[-1] > _ROSE * min(smooth)
    skipped = max((line.get("skipped") or 0 for line in lines), default=0)
    return History(step, planned, records, int(skipped), rose)

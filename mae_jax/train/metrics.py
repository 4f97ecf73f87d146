"""What a run writes about itself: JSON lines and TensorBoard."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from mae_jax.data.progress import say
from mae_jax.data.quiet import quiet_tensorflow


class Metrics:
    """Writes numbers and pictures of a run, each with the step they belong to.

    Args:
      workdir: gets `metrics.jsonl` and `tensorboard/`.
      tensorboard: whether to write the latter, which needs TensorFlow.
      resumed_at: the step a run resumes at; what was written of later steps, before the run was
        interrupted, is dropped, as those steps are made again.
    """

    def __init__(self, workdir: Path, *, tensorboard: bool, resumed_at: int = 0):
        path = workdir / "metrics.jsonl"
        _drop_after(path, resumed_at)
        self._lines = path.open("a")
        self._summary = _summary_writer(workdir / "tensorboard") if tensorboard else None

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Numbers of one step; a number that is not finite is written as null."""
        finite = {k: v if np.isfinite(v) else None for k, v in numbers.items()}
        self._lines.write(json.dumps({"step": step} | finite) + "\n")
        self._lines.flush()
        if self._summary:
            self._summary.write_scalars(step, numbers)

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture (H, W, C) uint8, to TensorBoard."""
        if self._summary:
            self._summary.write_images(step, {name: image[None]})

    def close(self) -> None:
        """Writes out what is still on its way."""
        self._lines.close()
        if self._summary:
            self._summary.close()


def read(workdir: Path) -> list[dict[str, Any]]:
    """All lines of a run's `metrics.jsonl`; a last line torn by a crash is left out."""
    lines = []
    for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def _drop_after(path, step):
    if not path.exists():
        return
    kept = [line for line in read(path.parent) if line["step"] <= step]
    fresh = path.with_suffix(".tmp")
    fresh.write_text("".join(json.dumps(line) + "\n" for line in kept))
    os.replace(fresh, path)


def _summary_writer(folder):
    quiet_tensorflow()
    try:
        from clu import metric_writers
    except ImportError:
        say("TensorBoard files are not written: pip install 'mae_jax[tensorflow]' for them")
        return None
    return metric_writers.SummaryWriter(str(folder))

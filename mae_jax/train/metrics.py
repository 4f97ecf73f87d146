"""What a run writes about itself: JSON lines and TensorBoard.

Neither ends a run. What cannot be written of the first is kept and written when it can be; the
second ends with its first error, after which TensorFlow's writer does not recover.
"""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

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
        self._lines = _Lines(workdir / "metrics.jsonl", resumed_at)
        self._summary = None
        if tensorboard:
            self._tensorboard(lambda _: _summary_writer(workdir / "tensorboard"))

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Numbers of one step; a number that is not finite is written as null."""
        finite = {k: v if np.isfinite(v) else None for k, v in numbers.items()}
        self._lines.write(json.dumps({"step": step} | finite) + "\n")
        if self._summary:
            self._tensorboard(lambda summary: summary.write_scalars(step, numbers))

    def write_image(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture (H, W, C) uint8, to TensorBoard."""
        if self._summary:
            self._tensorboard(lambda summary: summary.write_images(step, {name: image[None]}))

    def sync(self) -> None:
        """Sees to it that the lines outlive this machine, as a checkpoint does."""
        self._lines.sync()

    def is_whole(self) -> bool:
        """Whether all lines are in their file."""
        return self._lines.is_whole()

    def close(self) -> None:
        """Writes out what is still on its way."""
        self._lines.close()
        if self._summary:
            self._tensorboard(lambda summary: summary.close())

    def _tensorboard(self, act: Callable[[Any], Any]) -> None:
        try:
            self._summary = act(self._summary) or self._summary
        except Exception as error:  # TensorFlow's, of its threads, of any file system
            self._summary = None
            reason = " ".join(str(error).split()) or type(error).__name__
            say(f"TensorBoard files are no longer written, and the run goes on: {reason}")


class _Lines:
    """A file that lines are added to, and that never ends a run.

    A write may stop in the middle of a line. The rest is kept and goes first, so that no line is
    lost or torn while this process lives.
    """

    def __init__(self, path: Path, resumed_at: int):
        self._path, self._after = path, resumed_at  # None once nothing is left to be dropped
        self._file: BinaryIO | None = None
        self._waiting, self._late = bytearray(), False
        self._try(self._flush)

    def write(self, line: str) -> None:
        self._waiting += line.encode()
        self._try(self._flush)

    def sync(self) -> None:
        self._try(self._sync)

    def is_whole(self) -> bool:
        return self._after is None and not self._waiting

    def close(self) -> None:
        self._try(self._sync)
        lacking = self._waiting.count(b"\n")
        if lacking:
            say(f"{self._path} lacks its last {lacking} lines")

    def _flush(self):
        if self._after is not None:
            _drop_after(self._path, self._after)
            self._after = None
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
        while self._waiting:
            del self._waiting[: self._file.write(self._waiting)]

    def _sync(self):
        self._flush()
        os.fsync(self._file.fileno())
        # File systems at a distance, and buckets that are mounted, may wait for this.
        file, self._file = self._file, None
        file.close()

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()
                self._file = None
            if not self._late:
                say(
                    f"{self._path} cannot be written: {error.strerror or error}; the run goes on, "
                    "and its lines are kept until they can be"
                )
            self._late = True
        else:
            if self._late:
                say(f"{self._path} can be written again, and nothing lacks")
            self._late = False


def read(workdir: Path) -> list[dict[str, Any]]:
    """All lines of a run's `metrics.jsonl`; none where there is no such file.

    What is no such line is left out: the last may be torn by a crash.
    """
    try:
        text = (Path(workdir) / "metrics.jsonl").read_bytes()
    except OSError:
        return []
    return [line for line in map(_parsed, text.split(b"\n")) if line is not None]


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    known = isinstance(line, dict) and type(line.get("step")) is int
    return line if known else None


def _drop_after(path: Path, step: int) -> None:
    """Writes the file again without lines of later steps and torn ones, if it has any."""
    if not path.exists():
        return
    whole = path.read_bytes()
    lines = ((text, _parsed(text)) for text in whole.split(b"\n"))
    kept = b"".join(text + b"\n" for text, line in lines if line and line["step"] <= step)
    if kept == whole:
        return
    fresh = path.with_suffix(".tmp")
    with fresh.open("wb") as file:
        file.write(kept)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _summary_writer(folder):
    quiet_tensorflow()
    try:
        from clu import metric_writers
    except ImportError:
        say("TensorBoard files are not written: pip install 'mae_jax[tensorflow]' for them")
        return None
    return metric_writers.SummaryWriter(str(folder))

"""What a run told of its steps, read from its work folder in their order."""

import heapq
import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

from mae_jax.train.trackers.tracker import Entry

_PANEL = re.compile(r"step_(\d+)\.png")


class Feed:
    """Reads `metrics.jsonl` and `panels/` on, as far as they will stay as they are.

    Args:
      folder: the work folder of a run that goes on.
    """

    def __init__(self, folder: Path):
        self._folder, self._offset, self._read = folder, 0, 0

    def until(self, step: int) -> Iterator[Entry]:
        """Of each step that was not read yet, up to this one, all that was told.

        Args:
          step: of this and those before, nothing is told any more.
        """
        panels = ((number, {}, path) for number, path in self._panels(step))
        told = heapq.merge(self._lines(step), panels, key=lambda one: one[0])
        for number, parts in itertools.groupby(told, key=lambda one: one[0]):
            numbers, panel = {}, None
            for _, some, path in parts:
                numbers, panel = numbers | some, path or panel
            yield Entry(number, numbers, panel)
        self._read = max(self._read, step)

    def _lines(self, until) -> Iterator[tuple[int, dict[str, float], None]]:
        try:
            file = (self._folder / "metrics.jsonl").open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self._offset)
            for text in file:
                line = json.loads(text) if text.endswith(b"\n") else None
                if line is None or line["step"] > until:
                    return
                self._offset += len(text)
                step = line.pop("step")
                yield step, {k: math.nan if v is None else v for k, v in line.items()}, None

    def _panels(self, until) -> list[tuple[int, Path]]:
        named = ((_PANEL.fullmatch(path.name), path) for path in self._folder.glob("panels/*.png"))
        found = ((int(match[1]), path) for match, path in named if match)
        return sorted((step, path) for step, path in found if self._read < step <= until)

"""What a tracker has to do."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Literal

End = Literal["finished", "stopped", "failed"]


@dataclasses.dataclass(frozen=True)
class Told:
    """What a tracker is told of a run as a whole.

    Attributes:
      folder: the work folder.
      id: the run's own, random, the same from its first start to its end.
      name: what people call it.
      group: the study it belongs to; None where it stands alone.
      config: every key, named with dots.
    """

    folder: Path
    id: str
    name: str
    group: str | None
    config: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Entry:
    """All that a run tells of one step.

    Attributes:
      numbers: by name; not a number where it was not finite.
      panel: a picture, PNG; None where none was drawn.
    """

    step: int
    numbers: dict[str, float]
    panel: Path | None = None


class Tracker:
    """A run in a tracker. All is called from one thread; what is raised is said, and ends nothing.

    Attributes:
      needs: the package to be imported.
      place: where it can be looked at, once it is connected; "" where nobody can say.
    """

    needs: ClassVar[str]
    place: str = ""

    def connect(self, told: Told) -> int:
        """Finds the run of this id, or makes it, and writes down its config.

        Returns:
          The last step that the tracker has; 0 without any.
        """
        raise NotImplementedError

    def send(self, entries: list[Entry]) -> None:
        """Hands on what the tracker lacks of some steps, which come in their order.

        All steps of the run come anew after each `connect`, those that the tracker has too.
        """
        raise NotImplementedError

    def has_encoder(self, step: int) -> bool:
        """Whether the tracker has the encoder of this step; False where it does not say."""
        return False

    def send_encoder(self, folder: Path, step: int) -> None:
        """Hands on an exported encoder, which may be there already if nobody could say so."""
        raise NotImplementedError

    def close(self, end: End, reason: str) -> None:
        """Writes out what is on its way, and how this start of the run has ended.

        Args:
          reason: a sentence, where it has not finished.
        """
        raise NotImplementedError

    def drop(self) -> None:
        """Lets go of what `connect` took, after an error; another object connects again."""

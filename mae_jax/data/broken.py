"""Records that cannot be read: replaced by a fixed rule, counted, named once, and bounded."""

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

from mae_jax.data.records import Source
from mae_jax.errors import BrokenRecord

_TRIES = 1000  # records in a row that may be broken before one is looked for no longer
Made = TypeVar("Made")


def first_sound(
    record: int, records: int, make: Callable[[int], Made], known: set[int]
) -> tuple[Made, int]:
    """What `make` makes of a record, or of the next one that is not broken.

    The rule follows from the data alone: the next record of the set, and after the last the first.
    Where a broken record stands in the order, its stand-in stands, and nothing else moves.

    Args:
      record: which.
      records: how many there are.
      make: raises BrokenRecord.
      known: those known to be broken, which is added to.

    Returns:
      What was made, and how many records were passed over.

    Raises:
      BrokenRecord: all are broken, or very many in a row.
    """
    first = None
    for passed in range(min(records, _TRIES)):
        candidate = (record + passed) % records
        if candidate in known:
            continue
        try:
            return make(candidate), passed
        except BrokenRecord as error:
            known.add(candidate)
            first = first or error
    raise first or BrokenRecord(f"record {record} and all that could replace it are broken")


class Ledger:
    """Counts the broken records of a run, and ends it when they are too many.

    Args:
      source: the records.
      share: of them that may be broken, rounded up; 0 allows none.
      check: raises BrokenRecord if a record is broken, saying why.
      say: tells the person watching.
      instead: what becomes of a broken record, in words.
    """

    def __init__(
        self,
        source: Source,
        share: float,
        check: Callable[[int], object],
        say: Callable[[str], None] = lambda text: None,
        instead: str = "replaced by the next",
    ):
        self._records, self._share = len(source), share
        self.allowed = math.ceil(share * len(source))
        self._check, self._say, self._instead = check, say, instead
        self.seen: set[int] = set()

    def note(self, records: Iterable[int]) -> None:
        """Takes note of broken records; names those that are new.

        Raises:
          BrokenRecord: there are more than allowed.
        """
        for record in records:
            if record in self.seen:
                continue
            self.seen.add(record)
            reason = self._reason(record)
            if len(self.seen) > self.allowed:
                raise BrokenRecord(
                    f"{reason}; with it {len(self.seen)} of {self._records} records are broken, "
                    f"more than the {self.allowed} that data.broken_share {self._share} allows. "
                    "mae-jax data check lists them all"
                    if self.allowed
                    else reason
                )
            self._say(
                f"broken record {reason}; {self._instead} "
                f"({len(self.seen)} of at most {self.allowed})"
            )

    def _reason(self, record):
        try:
            self._check(record)
        except BrokenRecord as error:
            return str(error)
        return f"record {record}: could not be read when it was needed, but can be now"

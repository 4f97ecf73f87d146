"""Which record comes when: a permutation for every epoch, and shares of several sets."""

from collections.abc import Sequence

import numpy as np

from mae_jax.errors import UsageError

_ORDER = 2**64 - 1  # in the place of a record's index in the key that an epoch's order is drawn by


class Order:
    """The record at every place of every epoch.

    One set is gone through once per epoch, in an order of its own. Of several sets, an epoch takes
    as many records as all have together, each set's share of them; a set is gone through whole
    before any of it comes again.

    Args:
      seed: of the order.
      records: how many each set has.
      shares: of each set in an epoch; need not sum to 1.
    """

    def __init__(self, seed: int, records: Sequence[int], shares: Sequence[float] | None = None):
        self._seed, self._records = seed, tuple(records)
        self._starts = np.cumsum([0, *records])
        self.epoch_records = int(self._starts[-1])
        shares = records if shares is None else shares
        ends = np.round(np.cumsum(shares) / np.sum(shares) * self.epoch_records).astype(int)
        self._visits = tuple(int(n) for n in np.diff([0, *ends]))
        self._drawn: dict[tuple[int, int], tuple[int, np.ndarray]] = {}
        if not all(self._visits):
            raise UsageError(
                f"data.mixture has a set of {records[self._visits.index(0)]} records whose weight "
                "is too small for one of them to be seen in an epoch"
            )

    def __call__(self, visit: int) -> tuple[int, int]:
        """(epoch, record) of a visit, counted from the run's start; records in a row of all sets.

        With several sets, the epoch is how often that set has been gone through.
        """
        epoch, place = divmod(visit, self.epoch_records)
        place = int(self._permutation(self.epoch_records, epoch, 0)[place])
        if len(self._records) == 1:
            return epoch, place
        of, first = 0, 0
        while place >= first + self._visits[of]:
            first += self._visits[of]
            of += 1
        time, within = divmod(epoch * self._visits[of] + place - first, self._records[of])
        drawn = self._permutation(self._records[of], time, of + 1)
        return time, int(self._starts[of] + drawn[within])

    def _permutation(self, records: int, epoch: int, of: int) -> np.ndarray:
        # Asked for record by record, by several threads. A batch may span two epochs, and one of a
        # mixture several of a small set: so many are kept.
        slot = of, epoch % (2 + self._visits[of - 1] // self._records[of - 1] if of else 2)
        kept = self._drawn.get(slot)
        if kept is None or kept[0] != epoch:
            # A hundred times cheaper per record than grain's shuffle, a cipher of the index.
            bits = np.random.Philox(key=_key(self._seed, epoch, _ORDER), counter=[0, 0, 0, of])
            kept = epoch, np.random.Generator(bits).permutation(records)
            self._drawn[slot] = kept
        return kept[1]

    def __getstate__(self):
        return self.__dict__ | {"_drawn": {}}  # drawn again sooner than sent to a process


def view_rng(seed: int, epoch: int, record: int, repeat: int = 0) -> np.random.Generator:
    """What a view of a record is drawn by."""
    bits = np.random.Philox(key=_key(seed, epoch, record), counter=[0, 0, 0, repeat])
    return np.random.Generator(bits)


def _key(seed: int, epoch: int, index: int) -> np.ndarray:
    return np.array([seed << 32 | epoch, index], np.uint64)

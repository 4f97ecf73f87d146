"""Losses of several predictions of the same patches, summed batch by batch."""

import numpy as np


class Tally:
    """Sums over hidden values that have data."""

    def __init__(self):
        self._sums: dict[str, np.ndarray] = {}

    def add(self, name: str, guess: np.ndarray, wanted: np.ndarray, counted: np.ndarray) -> None:
        """Notes predictions; all arrays are (B, N, values), `counted` bool."""
        g, w = (np.where(counted, x, 0) for x in (guess, wanted))
        terms = (np.square(g - w), g * w, np.square(g), np.square(w), counted)
        sums = np.array([term.sum(dtype=np.float64) for term in terms])
        self._sums[name] = self._sums.get(name, 0) + sums

    def loss(self, name: str, *, scaled: bool = False) -> float:
        """The mean squared error.

        Args:
          scaled: of predictions times the one number that is best over all: what has the shape of
            a patch and no scale.
        """
        error, product, guess, wanted, count = self._sums[name]
        if scaled:
            error = wanted - product**2 / max(guess, 1e-20)
        return float(max(error, 0.0) / max(count, 1)) if np.isfinite(error) else float("nan")

    def names(self) -> list[str]:
        """Of all that was noted."""
        return list(self._sums)

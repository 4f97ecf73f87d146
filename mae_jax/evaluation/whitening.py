"""Features whose directions count alike: standardised, or whitened by principal components.

The features of a masked autoencoder differ most in directions that say little of classes, and what
compares by distance sees little else.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

KINDS = ("whiten", "standardise")
# What is added to every variance, over the mean of all. Chosen on training images alone.
REGULARISER = 1e-2


@dataclasses.dataclass(frozen=True)
class Whitening:
    """An affine map of features, fitted on those of training images.

    Attributes:
      mean: (D,) float64, taken off.
      matrix: what is multiplied with from the right: (D, D) float64, a column per principal
        component, the largest variance first; or (D,), of each feature by itself.
    """

    mean: np.ndarray
    matrix: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Features (…, D) in their own type to the same, computed in float64."""
        centred = np.asarray(features, np.float64) - self.mean
        made = centred @ self.matrix if self.matrix.ndim == 2 else centred * self.matrix
        return made.astype(features.dtype)


class Moments:
    """Mean and covariance of features that come in parts, in float64.

    Attributes:
      count: rows that were taken.
    """

    def __init__(self, parts: Iterable[np.ndarray] = ()):
        self.count, self._sum, self._products, self._origin = 0, 0.0, 0.0, None
        for part in parts:
            self.take(part)

    @property
    def width(self) -> int:
        """How many features there are; 0 before the first were taken."""
        return 0 if self._origin is None else len(self._origin)

    def take(self, features: np.ndarray) -> None:
        """Takes rows of features (…, D); those that are not finite are left out."""
        rows = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
        rows = rows[np.isfinite(rows).all(1)]
        if not len(rows):
            return
        if self._origin is None:  # sums are of what is left, so that a large mean costs no digits
            self._origin = rows.mean(0)
        rows = rows - self._origin
        self.count += len(rows)
        self._sum = self._sum + rows.sum(0)
        self._products = self._products + rows.T @ rows

    def fit(self, kind: str, regulariser: float | None = None) -> Whitening:
        """The map that gives these features variance 1, in every direction or in every feature.

        Args:
          kind: "whiten", by principal components, or "standardise".
          regulariser: added to every variance, over the mean of all variances. It keeps directions
            in which there is next to nothing, or, with fewer rows than features, nothing at all,
            from being blown up: they become small instead. By default `REGULARISER`, for whitening,
            and 1e-12 to standardise.

        Raises:
          ValueError: fewer than two rows, or an unknown kind.
        """
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is unknown; known are {', '.join(KINDS)}")
        if self.count < 2:
            raise ValueError(f"it takes the features of two images, and there are {self.count}")
        mean = self._sum / self.count
        covariance = (self._products - self.count * np.outer(mean, mean)) / (self.count - 1)
        if regulariser is None:
            regulariser = REGULARISER if kind == "whiten" else 1e-12
        least = regulariser * max(np.trace(covariance) / len(mean), np.finfo(float).tiny)
        if kind == "standardise":
            return Whitening(self._origin + mean, 1 / np.sqrt(np.diag(covariance) + least))
        variances, directions = np.linalg.eigh(covariance)
        variances, directions = np.maximum(variances[::-1], 0), directions[:, ::-1]
        # Of the two signs, the one that makes a column's largest entry positive.
        largest = directions[np.abs(directions).argmax(0), np.arange(len(mean))]
        directions = directions * np.where(largest < 0, -1, 1)
        return Whitening(self._origin + mean, directions / np.sqrt(variances + least))

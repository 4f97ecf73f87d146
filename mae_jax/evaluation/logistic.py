"""The best linear classifier of frozen features, found exactly, by scikit-learn."""

import dataclasses
import importlib.util
import warnings
from collections.abc import Sequence

import numpy as np

from mae_jax.errors import UsageError

# Inverse strengths of the L2 penalty, on features of unit deviation.
GRID = tuple(10.0**power for power in range(-5, 3))
_FOLDS = 5


@dataclasses.dataclass(frozen=True)
class Fit:
    """Accuracy on the queries, and the inverse strength of the penalty that was chosen."""

    accuracy: float
    inverse_l2: float


def check() -> None:
    """Raises UsageError where scikit-learn is missing."""
    if importlib.util.find_spec("sklearn") is None:
        raise UsageError("logistic regression needs scikit-learn; pip install 'mae_jax[digits]'")


def fit(
    train: np.ndarray,
    train_labels: np.ndarray,
    queries: np.ndarray,
    query_labels: np.ndarray,
    *,
    grid: Sequence[float] = GRID,
    standardised: bool = True,
) -> Fit:
    """Chooses the penalty by cross-validation, fits all training records, and asks the queries.

    Features are standardised by the training records, unless told otherwise. There are five folds,
    stratified; fewer where a class has fewer records, and with a single one the grid's middle is
    taken.

    Args:
      train, queries: (records, D) features.
      train_labels, query_labels: (records,) whole numbers.
      grid: inverse strengths of the penalty to choose from.
      standardised: False for features that are whitened, which this would undo the regulariser of.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def model(inverse_l2):
        scaling = [StandardScaler()] if standardised else []
        return make_pipeline(*scaling, LogisticRegression(C=inverse_l2, max_iter=1000, tol=1e-4))

    smallest = int(np.unique(train_labels, return_counts=True)[1].min())
    folds, scores = min(_FOLDS, smallest), {}
    with warnings.catch_warnings():
        # The weakest penalties do not converge on separable features, and are not what is chosen.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if folds > 1 and len(grid) > 1:
            parts = StratifiedKFold(folds, shuffle=True, random_state=0)
            for inverse_l2 in grid:
                found = cross_val_score(model(inverse_l2), train, train_labels, cv=parts)
                scores[inverse_l2] = found.mean()
            # Of equals the strongest penalty.
            best = max(scores, key=lambda value: (scores[value], -value))
        else:
            best = sorted(grid)[len(grid) // 2]
        fitted = model(best).fit(train, train_labels)
    return Fit(float(fitted.score(queries, query_labels)), best)

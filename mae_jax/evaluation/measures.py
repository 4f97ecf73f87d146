"""Measures of a classifier, counted batch by batch."""

import dataclasses
from typing import Any

import numpy as np

BINS = 15  # of confidence, as in Guo et al. 2017


@dataclasses.dataclass
class Tally:
    """Counts over the images seen so far.

    Attributes:
      classes: how many there are.
    """

    classes: int

    def __post_init__(self):
        self._confusion = np.zeros((self.classes, self.classes), np.int64)
        self._top5, self._loss = 0, 0.0
        self._bins = np.zeros((3, BINS))  # images, their confidence, how many were right

    def add(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """Counts images.

        Args:
          logits: (B, classes).
          labels: (B,) whole numbers below `classes`.
        """
        if not len(labels):
            return
        logits = logits.astype(np.float64)
        log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        best = log_p.argmax(1)
        np.add.at(self._confusion, (labels, best), 1)
        own = np.take_along_axis(log_p, labels[:, None], axis=1)
        # Of equal logits the first in order comes first, as argmax has it.
        before = np.arange(self.classes)[None] < labels[:, None]
        rank = ((log_p > own) | ((log_p == own) & before)).sum(1)
        self._top5 += int((rank < 5).sum())
        self._loss -= float(own.sum())
        confidence = np.exp(log_p.max(1))
        place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        np.add.at(self._bins, (0, place), 1)
        np.add.at(self._bins, (1, place), confidence)
        np.add.at(self._bins, (2, place), best == labels)

    @property
    def images(self) -> int:
        """How many were counted."""
        return int(self._confusion.sum())

    @property
    def confusion(self) -> np.ndarray:
        """(classes, classes): images by true class, in rows, and predicted class."""
        return self._confusion

    def measures(self) -> dict[str, float]:
        """Shares of the images: `top1`, `top5`, the mean of the classes' accuracies; `loss`, the
        mean cross-entropy; and `calibration_error`, the expected one over 15 bins of confidence.
        """
        per_class = self.per_class()
        return {
            "top1": float(np.trace(self._confusion)) / self.images,
            "top5": self._top5 / self.images,
            "mean_class_accuracy": float(np.nanmean(per_class)),
            "loss": self._loss / self.images,
            "calibration_error": float(np.abs(self._bins[1] - self._bins[2]).sum() / self.images),
        }

    def per_class(self) -> np.ndarray:
        """(classes,) accuracy; NaN for a class without images."""
        images = self._confusion.sum(1)
        with np.errstate(invalid="ignore"):
            return np.where(images > 0, np.diag(self._confusion) / images, np.nan)

    def calibration(self) -> list[dict[str, Any]]:
        """For every bin of confidence: its upper edge, images, mean confidence, accuracy."""
        rows = []
        for index, (images, confidence, right) in enumerate(self._bins.T):
            rows.append(
                {
                    "up_to": (index + 1) / BINS,
                    "images": int(images),
                    "confidence": confidence / images if images else None,
                    "accuracy": right / images if images else None,
                }
            )
        return rows

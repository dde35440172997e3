"""Average precision from a ranking of right and wrong detections.

Letters of shapes: D detections of a class, best first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Curve = NDArray[np.float64]
Weights = NDArray[np.int64]
"""`[D]`, how often each detection counts, where images are drawn with repetition."""

AveragePrecision = Callable[[Flags, int, "Weights | None"], float]


def precision_recall(
    right: Flags, positives: int, weights: Weights | None = None
) -> tuple[Curve, Curve]:
    """Precision and recall after each detection of a ranking, `float64 [D]` each.

    Precision is 0 as long as nothing counts.

    Args:
        right: `bool [D]`, is the detection an object that no better one has found?
        positives: the number of objects, at least 1.
    """
    counts = np.ones(len(right), np.int64) if weights is None else weights
    found, all_ = np.cumsum(right * counts), np.cumsum(counts)
    return found / np.maximum(all_, 1), found / positives


def area(right: Flags, positives: int, weights: Weights | None = None) -> float:
    """The area under the precision envelope: VOC 2010 and later (`VOCap.m`), and ILSVRC.

    At each recall the precision is the best one at that recall or a higher one.
    """
    precision, recall = precision_recall(right, positives, weights)
    steps = np.diff(recall, prepend=0.0)
    return float(np.sum(steps * _envelope(precision)))


def eleven_points(right: Flags, positives: int, weights: Weights | None = None) -> float:
    """The mean of the best precision at recalls of 0, 0.1, … 1: VOC 2007 (`VOCevaldet.m`)."""
    return _at(np.arange(11) / 10, *precision_recall(right, positives, weights))


def hundred_and_one_points(right: Flags, positives: int, weights: Weights | None = None) -> float:
    """The mean of the best precision at recalls of 0, 0.01, … 1: COCO (`cocoeval.py`)."""
    return _at(np.linspace(0, 1, 101), *precision_recall(right, positives, weights))


def _at(recalls: Curve, precision: Curve, recall: Curve) -> float:
    best = np.append(_envelope(precision), 0.0)  # nothing has a recall beyond the last one
    return float(np.mean(best[np.searchsorted(recall, recalls, "left")]))


def _envelope(precision: Curve) -> Curve:
    """The best precision at each recall or a higher one."""
    best: Curve = np.maximum.accumulate(precision[::-1])[::-1]
    return best

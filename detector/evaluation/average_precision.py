"""Average precision of a ranking of right and wrong detections.

Letters of shapes: D detections of a class, best first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Curve = NDArray[np.float64]
Weights = NDArray[np.int64]
"""`[D]`, how often each detection counts. It differs from 1 when images are drawn with
replacement."""

AveragePrecision = Callable[[Flags, int, "Weights | None"], float]


def precision_recall(
    right: Flags, positives: int, weights: Weights | None = None
) -> tuple[Curve, Curve]:
    """Return precision and recall after each detection of a ranking, `float64 [D]` each.

    Precision is 0 until the first detection counts.

    Args:
        right: `bool [D]`, whether the detection is a true positive.
        positives: Number of objects, at least 1.
        weights: How often each detection counts; once by default.
    """
    counts = np.ones(len(right), np.int64) if weights is None else weights
    true_positives = np.cumsum(right * counts)
    detections = np.cumsum(counts)
    return true_positives / np.maximum(detections, 1), true_positives / positives


def area(right: Flags, positives: int, weights: Weights | None = None) -> float:
    """Return the area under the precision envelope: VOC 2010 and later (`VOCap.m`), and ILSVRC.

    The envelope at a recall is the best precision at that recall or a higher one.
    """
    precision, recall = precision_recall(right, positives, weights)
    steps = np.diff(recall, prepend=0.0)
    return float(np.sum(steps * _envelope(precision)))


def eleven_points(right: Flags, positives: int, weights: Weights | None = None) -> float:
    """Return the mean of the envelope at recalls 0, 0.1, … 1: VOC 2007 (`VOCevaldet.m`).

    The official code writes the recalls as `0:0.1:1`. Three of them are then a little more than the
    decimal number: a recall of exactly 3/10, 6/10 or 7/10 does not reach them.
    """
    return _at(np.arange(11, dtype=np.float64) * 0.1, *precision_recall(right, positives, weights))


def hundred_and_one_points(right: Flags, positives: int, weights: Weights | None = None) -> float:
    """Return the mean of the envelope at recalls 0, 0.01, … 1: COCO (`cocoeval.py`)."""
    return _at(np.linspace(0, 1, 101), *precision_recall(right, positives, weights))


def _at(recalls: Curve, precision: Curve, recall: Curve) -> float:
    best = np.append(_envelope(precision), 0.0)  # 0 beyond the highest recall
    return float(np.mean(best[np.searchsorted(recall, recalls, "left")]))


def _envelope(precision: Curve) -> Curve:
    """Return the best precision at each recall or a higher one."""
    best: Curve = np.maximum.accumulate(precision[::-1])[::-1]
    return best

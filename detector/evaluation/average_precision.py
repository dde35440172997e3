"""Average precision from a ranking of right and wrong detections.

Letters of shapes: D detections of a class, best first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Curve = NDArray[np.float64]


def precision_recall(right: Flags, positives: int) -> tuple[Curve, Curve]:
    """Precision and recall after each detection of a ranking, `float64 [D]` each.

    Args:
        right: `bool [D]`, is the detection an object that no better one has found?
        positives: the number of objects, at least 1.
    """
    found = np.cumsum(right)
    precision = found / np.arange(1, len(right) + 1)
    return precision, found / positives


def area(right: Flags, positives: int) -> float:
    """The area under the precision envelope: VOC 2010 and later (`VOCap.m`), and ILSVRC.

    At each recall the precision is the best one at that recall or a higher one.
    """
    precision, recall = precision_recall(right, positives)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall, prepend=0.0)
    return float(np.sum(steps * envelope))


def eleven_points(right: Flags, positives: int) -> float:
    """The mean of the best precision at recalls of 0, 0.1, … 1: VOC 2007 (`VOCevaldet.m`)."""
    precision, recall = precision_recall(right, positives)
    best = [precision[recall >= point].max(initial=0.0) for point in np.arange(11) / 10]
    return float(np.mean(best))

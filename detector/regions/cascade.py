"""The rule that decides which regions the next network of an ensemble has to see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proposals.boxes import nms, overlapping_pairs
from proposals.types import Boxes

CLEARLY_WORSE = 0.6
"""A box is clearly worse than another one if its probability is less than this share of the
other's. Chosen on training images, as the default threshold is (`docs/results.md`)."""


@dataclass(frozen=True)
class Cascade:
    """Shows further networks only the regions that may still become detections.

    A region is undecided if, for some class, its mean probability so far reaches the threshold and
    it is not clearly worse than a box that suppresses it.

    Args:
        threshold: Least mean probability of an undecided region.
        nms_iou: Boxes that overlap by more than this IoU suppress each other.
    """

    threshold: float
    nms_iou: float

    def undecided(self, boxes: Boxes, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which regions of an image may still become detections: `bool [N]`.

        Args:
            boxes: `float32 [N, 4]`.
            probabilities: Means so far, `[N, 1 + classes]`; column 0 is background.
        """
        above = probabilities[:, 1:] >= self.threshold  # [N, classes]
        (possible,) = np.nonzero(above.any(axis=1))
        overlaps = overlapping_pairs(boxes[possible], self.nms_iou)

        undecided = np.zeros(len(boxes), np.bool_)
        for column in np.flatnonzero(above.any(axis=0)):
            (candidates,) = np.nonzero(above[possible, column])
            scores = probabilities[possible[candidates], 1 + column]
            class_overlaps = overlaps[np.ix_(candidates, candidates)]
            winners = nms(class_overlaps, scores)
            beaten = class_overlaps[winners] & (scores < CLEARLY_WORSE * scores[winners, None])
            undecided[possible[candidates[~beaten.any(axis=0)]]] = True
        return undecided

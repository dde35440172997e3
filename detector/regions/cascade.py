"""Which regions need the other members, when some of them have seen all?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proposals.boxes import nms, overlap_by_more
from proposals.types import Boxes

CLEARLY = 0.6
"""A box is clearly worse than another if it has less than this share of its probability: chosen on
training photos, as the default threshold is (`docs/results.md`)."""


@dataclass(frozen=True)
class Cascade:
    """The rule that only regions that may still become detections are shown to further members.

    A region may if, for some class, the members so far give it the threshold or more in the mean,
    and it is not clearly worse than a box that suppresses it as things stand.

    Args:
        threshold: of the mean probability.
        nms_iou: overlap by more than this is suppressed.
    """

    threshold: float
    nms_iou: float

    def open(self, boxes: Boxes, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which regions of an image may still become detections: `bool [N]`.

        Args:
            boxes: `[N, 4]`.
            probabilities: the means so far `[N, 1 + classes]`; column 0 is background.
        """
        above = probabilities[:, 1:] >= self.threshold  # [N, classes]
        (possible,) = np.nonzero(above.any(axis=1))
        overlaps = overlap_by_more(boxes[possible], self.nms_iou)
        found = np.zeros(len(boxes), np.bool_)
        for column in np.flatnonzero(above.any(axis=0)):
            (candidates,) = np.nonzero(above[possible, column])
            scores = probabilities[possible[candidates], 1 + column]
            among = overlaps[np.ix_(candidates, candidates)]
            winners = nms(among, scores)
            beaten = among[winners] & (scores < CLEARLY * scores[winners, None])
            found[possible[candidates[~beaten.any(axis=0)]]] = True
        return found

"""The union of the proposals of two methods."""

from __future__ import annotations

import numpy as np

from proposals.boxes import iou
from proposals.types import Proposals

NEAR_DUPLICATE = 0.9
"""IoU from which two boxes count as the same: a classifier sees nearly the same pixels in both."""


def merge(first: Proposals, second: Proposals) -> Proposals:
    """Return all boxes of the first, and those of the second that are no near-duplicates of them.

    Boxes keep their sources and scores. The result is in canonical order.
    """
    is_new = np.ones(len(second), np.bool_)
    if len(first) and len(second):
        is_new = iou(second.boxes, first.boxes).max(axis=1) < NEAR_DUPLICATE

    boxes = np.concatenate([first.boxes, second.boxes[is_new]])
    scores = np.concatenate([first.scores, second.scores[is_new]])
    sources = np.concatenate([first.sources, second.sources[is_new]])
    order = np.lexsort(boxes.T[::-1])
    return Proposals(boxes[order], scores[order], sources[order])

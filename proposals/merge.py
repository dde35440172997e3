"""The union of two engines' proposals."""

from __future__ import annotations

import numpy as np

from proposals.boxes import iou
from proposals.types import Proposals

NEAR_DUPLICATE = 0.9
"""IoU from which a box adds nothing: a classifier sees the same in both."""


def merge(first: Proposals, second: Proposals) -> Proposals:
    """All boxes of the first, and those of the second that are no near-duplicates of them.

    Each keeps its source and its score; the order is canonical.
    """
    new = np.ones(len(second), np.bool_)
    if len(first) and len(second):
        new = iou(second.boxes, first.boxes).max(axis=1) < NEAR_DUPLICATE
    boxes = np.concatenate([first.boxes, second.boxes[new]])
    order = np.lexsort(boxes.T[::-1])
    return Proposals(
        boxes[order],
        np.concatenate([first.scores, second.scores[new]])[order],
        np.concatenate([first.sources, second.sources[new]])[order],
    )

"""Arithmetic on boxes: overlap, rounding to whole pixels, non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from proposals.types import Boxes

ROWS_PER_BLOCK = 256
"""Number of boxes whose overlaps with all others are computed at once."""


def areas(boxes: Boxes) -> NDArray[np.float64]:
    """Return the areas `float64 [N]` of boxes `[N, 4]`, in square pixels."""
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    area: NDArray[np.float64] = (x2 - x1) * (y2 - y1)
    return area


def iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Return the intersection over union (Jaccard index) of every pair of boxes.

    It is computed in float64, so that a ratio of whole pixels such as 3/10 equals the literal 0.3
    of a threshold. The IoU of two boxes without area is 0.

    Args:
        a: Boxes `[A, 4]`.
        b: Boxes `[B, 4]`.

    Returns:
        `float64 [A, B]`.

    >>> iou(np.float32([[0, 0, 10, 10]]), np.float32([[0, 0, 10, 5], [20, 20, 30, 30]]))
    array([[0.5, 0. ]])
    """
    ax1, ay1, ax2, ay2 = a.astype(np.float64).T[:, :, None]  # each [A, 1]
    bx1, by1, bx2, by2 = b.astype(np.float64).T[:, None, :]  # each [1, B]
    width = np.minimum(ax2, bx2) - np.maximum(ax1, bx1)  # [A, B]
    height = np.minimum(ay2, by2) - np.maximum(ay1, by1)  # [A, B]
    intersection = width.clip(0) * height.clip(0)
    union = areas(a)[:, None] + areas(b)[None, :] - intersection

    overlap: NDArray[np.float64] = np.zeros_like(union)
    np.divide(intersection, union, out=overlap, where=union > 0)
    return overlap


def overlapping_pairs(boxes: Boxes, threshold: float) -> NDArray[np.bool_]:
    """Return which pairs of boxes `[N, 4]` have an IoU above the threshold: `bool [N, N]`."""
    overlapping = np.empty((len(boxes), len(boxes)), np.bool_)
    # In blocks, because the IoU of all pairs takes eight times the memory of the result.
    for start in range(0, len(boxes), ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        overlapping[block] = iou(boxes[block], boxes) > threshold
    return overlapping


def round_boxes(boxes: NDArray[np.floating], width: int, height: int) -> Boxes:
    """Round boxes to whole pixels (half up) and clip them to the image.

    Empty boxes and duplicates are dropped.

    Args:
        boxes: `[N, 4]` in pixels.
        width: Width of the image.
        height: Height of the image.

    Returns:
        `float32 [M, 4]` in canonical order: by x1, then y1, x2, y2.
    """
    rounded = np.floor(np.asarray(boxes, np.float64).reshape(-1, 4) + 0.5)
    clipped = rounded.clip(0, [width, height, width, height])
    x1, y1, x2, y2 = clipped.T
    has_area = (x2 > x1) & (y2 > y1)  # [N]
    return np.unique(clipped[has_area], axis=0).astype(np.float32)


def nms(overlapping: NDArray[np.bool_], scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """Choose boxes by greedy non-maximum suppression.

    The best box is selected and the boxes that overlap it are dropped; then the best of the rest
    is selected, and so on. Among equal scores, earlier boxes come first.

    Args:
        overlapping: `bool [N, N]`, which pairs of boxes overlap by more than the threshold. It is
            an argument because many classes share one set of boxes.
        scores: `[N]`.

    Returns:
        Indices of the selected boxes, best first.
    """
    available = np.ones(len(scores), np.bool_)
    selected = []
    for index in np.argsort(-scores, kind="stable"):
        if available[index]:
            selected.append(index)
            available &= ~overlapping[index]
    return np.array(selected, np.intp)

"""Arithmetic on boxes: overlap, whole pixels, canonical order, non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from proposals.types import Boxes


def areas(boxes: Boxes) -> NDArray[np.float64]:
    """The area in square pixels of each of `boxes` `[N, 4]`: `float64 [N]`."""
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    area: NDArray[np.float64] = (x2 - x1) * (y2 - y1)
    return area


def iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Intersection over union (the Jaccard index) of every pair: `float64 [len(a), len(b)]`.

    Computed in float64, so that a ratio of whole pixels such as 3/10 equals the literal 0.3 that
    it is compared with. Two boxes without area have overlap 0.

    >>> iou(np.float32([[0, 0, 10, 10]]), np.float32([[0, 0, 10, 5], [20, 20, 30, 30]]))
    array([[0.5, 0. ]])
    """
    ax1, ay1, ax2, ay2 = a.astype(np.float64).T[:, :, None]  # each [A, 1]
    bx1, by1, bx2, by2 = b.astype(np.float64).T[:, None, :]  # each [1, B]
    width = np.minimum(ax2, bx2) - np.maximum(ax1, bx1)  # [A, B]
    height = np.minimum(ay2, by2) - np.maximum(ay1, by1)
    intersection = width.clip(0) * height.clip(0)
    union = areas(a)[:, None] + areas(b)[None, :] - intersection
    overlap: NDArray[np.float64] = np.zeros_like(union)
    np.divide(intersection, union, out=overlap, where=union > 0)
    return overlap


def overlap_by_more(boxes: Boxes, threshold: float) -> NDArray[np.bool_]:
    """Which pairs of boxes `[N, 4]` have an IoU over the threshold: `bool [N, N]`.

    It is made in blocks of rows, for in float64 the pairs of many boxes fill the memory.
    """
    overlaps = np.empty((len(boxes), len(boxes)), np.bool_)
    rows = 256
    for start in range(0, len(boxes), rows):
        overlaps[start : start + rows] = iou(boxes[start : start + rows], boxes) > threshold
    return overlaps


def whole_pixels(boxes: NDArray[np.floating], width: int, height: int) -> Boxes:
    """Boxes `[N, 4]` rounded (half up), clipped to the image, without empty ones and repetitions.

    Returns them in canonical order: by x1, then y1, x2, y2.
    """
    rounded = np.floor(np.asarray(boxes, np.float64).reshape(-1, 4) + 0.5)
    rounded = rounded.clip(0, [width, height, width, height])
    x1, y1, x2, y2 = rounded.T
    return np.unique(rounded[(x2 > x1) & (y2 > y1)], axis=0).astype(np.float32)


def nms(overlaps: NDArray[np.bool_], scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """Greedy non-maximum suppression.

    The best box is kept and those that overlap it are dropped, then the best of the rest, and so
    on. Equal scores are taken in the order of the boxes.

    Args:
        overlaps: `bool [N, N]`: do two boxes overlap by more than the threshold? It is taken as a
            matrix since many classes share one set of boxes.
        scores: `[N]`.

    Returns:
        Indices of the boxes kept, best first.
    """
    alive = np.ones(len(scores), np.bool_)
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        if alive[index]:
            kept.append(index)
            alive &= ~overlaps[index]
    return np.array(kept, np.intp)

"""Boxes that do not depend on the pixels: baselines to compare proposal methods with."""

from __future__ import annotations

import math

import numpy as np

from proposals.boxes import round_boxes
from proposals.types import Boxes

SMALLEST_SIDE = 20.0
"""Smallest square root of a random box's area, in pixels: selective search's own limit."""

ASPECTS = (0.5, 1.0, 2.0)
"""Width / height of sliding windows."""

SCALES = (0.12, 0.25, 0.4, 0.6, 0.85)
"""Square root of a sliding window's area, as a share of the square root of the image's area."""


def random_boxes(width: int, height: int, count: int, rng: np.random.Generator) -> Boxes:
    """Draw random boxes inside an image.

    This is "Uniform" of Hosang, Benenson and Schiele, *How good are detection proposals, really?*
    (2014): the centre, the square root of the area, and the logarithm of the aspect ratio are drawn
    uniformly.

    Args:
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        count: Number of boxes; a few less are returned if some are equal.
        rng: Generator of random numbers.

    Returns:
        `float32 [N, 4]` in canonical order.
    """
    largest = math.sqrt(width * height)
    side = rng.uniform(min(SMALLEST_SIDE, largest), largest, count)  # [count]
    stretch = np.exp(rng.uniform(-math.log(3), math.log(3), count) / 2)  # [count]
    half_sizes = np.stack([side * stretch, side / stretch], axis=1) / 2  # [count, 2]
    centres = rng.uniform(0, 1, (count, 2)) * [width, height]  # [count, 2]
    boxes = np.concatenate([centres - half_sizes, centres + half_sizes], 1)  # [count, 4]
    return round_boxes(boxes, width, height)


def sliding_windows(width: int, height: int, count: int) -> Boxes:
    """Return windows of several sizes and shapes on a regular grid.

    Args:
        width: Width of the image, in pixels.
        height: Height of the image, in pixels.
        count: Number of windows; a few less are returned if some are equal.

    Returns:
        `float32 [N, 4]` in canonical order.
    """
    # Bisect for the largest stride, as a share of the window's sides, that gives more windows than
    # needed.
    low = 1e-3
    high = 4.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        if len(_grid(width, height, middle)) > count:
            low = middle
        else:
            high = middle

    # Drop the surplus evenly.
    windows = _grid(width, height, low)
    chosen = np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(int)
    return round_boxes(windows[chosen], width, height)


def _grid(width: int, height: int, stride: float) -> Boxes:
    """Return all windows `float32 [N, 4]` at a stride that is a share of their sides."""
    windows = []
    for scale in SCALES:
        for aspect in ASPECTS:
            side = scale * math.sqrt(width * height)
            w = min(width, side * math.sqrt(aspect))
            h = min(height, side / math.sqrt(aspect))
            xs = _positions(width - w, stride * w)
            ys = _positions(height - h, stride * h)
            x, y = (axis.ravel() for axis in np.meshgrid(xs, ys))
            windows.append(np.stack([x, y, x + w, y + h], axis=1))
    return np.concatenate(windows).astype(np.float32)


def _positions(last: float, stride: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return evenly spaced positions from 0 to the last one, not further apart than the stride."""
    return np.linspace(0, last, min(10_000, math.ceil(last / stride) + 1))

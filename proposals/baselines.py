"""Boxes that look at no pixel: what engines have to beat."""

from __future__ import annotations

import math

import numpy as np

from proposals.boxes import whole_pixels
from proposals.types import Boxes

SMALLEST_SIDE = 20.0
"""Pixels: selective search's own limit at working size."""

ASPECTS = (0.5, 1.0, 2.0)
"""Width / height of sliding windows."""

SCALES = (0.12, 0.25, 0.4, 0.6, 0.85)
"""The square root of a sliding window's area, as a share of the image's."""


def random_boxes(width: int, height: int, count: int, rng: np.random.Generator) -> Boxes:
    """Random boxes inside an image: `count`, or a few less where some are equal.

    As "Uniform" of Hosang, Benenson and Schiele, *How good are detection proposals, really?*
    (2014): centre, square root of the area, and logarithm of the aspect ratio are drawn evenly.
    """
    largest = math.sqrt(width * height)
    side = rng.uniform(min(SMALLEST_SIDE, largest), largest, count)
    stretch = np.exp(rng.uniform(-math.log(3), math.log(3), count) / 2)
    halves = np.stack([side * stretch, side / stretch], axis=1) / 2
    centres = rng.uniform(0, 1, (count, 2)) * [width, height]
    return whole_pixels(np.concatenate([centres - halves, centres + halves], 1), width, height)


def sliding_windows(width: int, height: int, count: int) -> Boxes:
    """A regular grid of windows of several sizes and shapes: `count`, or a few less where some
    are equal.
    """
    low, high = 1e-3, 4.0  # the stride, as a share of the window's sides
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if len(_grid(width, height, middle)) > count else (low, middle)
    windows = _grid(width, height, low)
    evenly = np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(int)
    return whole_pixels(windows[evenly], width, height)


def _grid(width: int, height: int, stride: float) -> Boxes:
    """All windows `[N, 4]` at a stride that is a share of their sides."""
    parts = []
    for scale in SCALES:
        for aspect in ASPECTS:
            side = scale * math.sqrt(width * height)
            w = min(width, side * math.sqrt(aspect))
            h = min(height, side / math.sqrt(aspect))
            xs = _starts(width - w, stride * w)
            ys = _starts(height - h, stride * h)
            x, y = (axis.ravel() for axis in np.meshgrid(xs, ys))
            parts.append(np.stack([x, y, x + w, y + h], axis=1))
    return np.concatenate(parts).astype(np.float32)


def _starts(room: float, step: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Where windows begin: evenly over the room that there is, at most a step apart."""
    return np.linspace(0, room, min(10_000, math.ceil(room / step) + 1))

"""What a detector finds in an image."""

from __future__ import annotations

from typing import NamedTuple


class Detection(NamedTuple):
    """An object found.

    `box` is x1, y1, x2, y2 in pixels, 0-based, x2 and y2 exclusive.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]

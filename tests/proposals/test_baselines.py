from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proposals.baselines import random_boxes, sliding_windows
from proposals.types import Boxes

sides = st.integers(1, 600)


def check(boxes: Boxes, width: int, height: int, count: int) -> None:
    assert boxes.dtype == np.float32
    assert len(boxes) <= count
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    x1, y1, x2, y2 = boxes.T
    assert ((x1 >= 0) & (x1 < x2) & (x2 <= width)).all()
    assert ((y1 >= 0) & (y1 < y2) & (y2 <= height)).all()
    np.testing.assert_array_equal(boxes, boxes.round())


@given(sides, sides, st.integers(0, 300), st.integers(0, 2**32))
@settings(deadline=None)
def test_random_boxes_are_inside(width: int, height: int, count: int, seed: int) -> None:
    check(random_boxes(width, height, count, np.random.default_rng(seed)), width, height, count)


@given(sides, sides, st.integers(0, 300))
@settings(deadline=None)
def test_sliding_windows_are_inside(width: int, height: int, count: int) -> None:
    check(sliding_windows(width, height, count), width, height, count)


@pytest.mark.parametrize("count", [10, 200, 1300, 2400])
def test_as_many_as_asked_for(count: int) -> None:
    assert len(random_boxes(500, 375, count, np.random.default_rng(0))) >= 0.99 * count
    assert len(sliding_windows(500, 375, count)) >= 0.95 * count


def test_windows_are_everywhere() -> None:
    """Every place of the image is in small windows and in large ones."""
    boxes = sliding_windows(500, 375, 1300)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    for chosen in (boxes[areas < 10_000], boxes[areas > 30_000]):
        covered = np.zeros((375, 500), np.bool_)
        for x1, y1, x2, y2 in chosen.astype(int).tolist():
            covered[y1:y2, x1:x2] = True
        assert covered.mean() > 0.99

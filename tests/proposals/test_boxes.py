from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from proposals.boxes import iou, nms, overlapping_pairs, round_boxes

corner_pairs = arrays(
    np.int64, st.tuples(st.integers(0, 12), st.just(4)), elements=st.integers(0, 9)
)


def to_boxes(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Any integers `[N, 4]` as boxes with an area."""
    first = np.minimum(numbers[:, :2], numbers[:, 2:])
    last = np.maximum(numbers[:, :2], numbers[:, 2:])
    return np.concatenate([first, last + 1], axis=1).astype(np.float32)


def pixels(box: NDArray[np.float32]) -> set[tuple[int, int]]:
    x1, y1, x2, y2 = box.astype(int).tolist()
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


@given(corner_pairs.map(to_boxes), corner_pairs.map(to_boxes))
def test_iou_counts_pixels(a: NDArray[np.float32], b: NDArray[np.float32]) -> None:
    overlaps = iou(a, b)
    assert overlaps.shape == (len(a), len(b))
    for i, first in enumerate(a):
        for j, second in enumerate(b):
            shared, either = pixels(first) & pixels(second), pixels(first) | pixels(second)
            assert overlaps[i, j] == float(Fraction(len(shared), len(either)))


def test_overlaps_in_blocks_equal_those_at_once() -> None:
    rng = np.random.default_rng(0)
    boxes = to_boxes(rng.integers(0, 40, (600, 4)))
    assert (overlapping_pairs(boxes, 0.3) == (iou(boxes, boxes) > 0.3)).all()
    assert overlapping_pairs(boxes[:0], 0.3).shape == (0, 0)


def test_iou_of_boxes_without_area_is_zero() -> None:
    point = np.array([[3, 3, 3, 3]], np.float32)
    assert iou(point, point) == 0


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        pytest.param([], [], id="none"),
        pytest.param([[0.5, 0.4, 5.5, 5.49]], [[1, 0, 6, 5]], id="halves go up"),
        pytest.param([[-3, -1, 20, 20]], [[0, 0, 10, 8]], id="clipped to the image"),
        pytest.param([[4, 4, 4.2, 8]], [], id="empty ones dropped"),
        pytest.param([[11, 0, 20, 5]], [], id="outside ones dropped"),
        pytest.param([[1, 2, 3, 4], [1.1, 2, 3, 4]], [[1, 2, 3, 4]], id="repetitions dropped"),
        pytest.param(
            [[5, 0, 6, 1], [1, 5, 2, 6], [1, 0, 9, 1], [1, 0, 2, 1]],
            [[1, 0, 2, 1], [1, 0, 9, 1], [1, 5, 2, 6], [5, 0, 6, 1]],
            id="canonical order",
        ),
    ],
)
def test_whole_pixels(boxes: list[list[float]], expected: list[list[float]]) -> None:
    result = round_boxes(np.array(boxes, np.float32), width=10, height=8)
    assert result.dtype == np.float32
    assert result.shape == (len(expected), 4)
    assert result.tolist() == expected


def literal_nms(boxes: NDArray[np.float32], scores: list[float], threshold: Fraction) -> list[int]:
    """Greedy suppression with sets of pixels and exact ratios."""
    remaining = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    kept = []
    while remaining:
        best = remaining.pop(0)
        kept.append(best)
        remaining = [
            other
            for other in remaining
            if Fraction(
                len(pixels(boxes[best]) & pixels(boxes[other])),
                len(pixels(boxes[best]) | pixels(boxes[other])),
            )
            <= threshold
        ]
    return kept


@given(corner_pairs.map(to_boxes), st.data())
def test_nms_equals_the_literal_one(boxes: NDArray[np.float32], data: st.DataObject) -> None:
    scores = data.draw(
        st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=len(boxes), max_size=len(boxes))
    )
    kept = nms(iou(boxes, boxes) > 0.3, np.array(scores))
    assert kept.tolist() == literal_nms(boxes, scores, Fraction(3, 10))


def test_an_overlap_of_exactly_the_threshold_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 1], [0, 0, 3, 1]], np.float32)  # IoU 3/10
    assert nms(iou(boxes, boxes) > 0.3, np.array([0.9, 0.8])).tolist() == [0, 1]

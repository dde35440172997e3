from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.regions.cascade import CLEARLY_WORSE, Cascade
from detector.regions.nms import select_detections
from detector.settings import DetectionSettings
from proposals.boxes import iou
from proposals.types import Boxes

LEFT, LEFT_HALF, BETWEEN, RIGHT = BOXES = np.array(
    [[0, 0, 10, 10], [0, 0, 10, 6], [4, 0, 14, 10], [11, 0, 20, 10]], np.float32
)
"""Each overlaps its neighbours by more than 0.3, but for the last, which overlaps none."""


def cats(*probabilities: float) -> NDArray[np.float32]:
    """Of the background, cats and dogs `[N, 3]`."""
    return np.array([[1 - p, p, 0] for p in probabilities], np.float32)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        pytest.param((0.04, 0.05, 0.0, 0.9), (False, True, False, True), id="the threshold"),
        pytest.param((0.9, 0.5, 0.1, 0.5), (True, False, False, True), id="suppressed"),
        pytest.param((0.9, 0.6, 0.1, 0.5), (True, True, False, True), id="not clearly worse"),
        pytest.param((0.1, 0.9, 0.06, 0.0), (False, True, True, False), id="not suppressed"),
    ],
)
def test_one_class(probabilities: tuple[float, ...], expected: tuple[bool, ...]) -> None:
    found = Cascade(0.05, nms_iou=0.3).undecided(BOXES, cats(*probabilities))
    assert tuple(found) == expected


def test_what_is_suppressed_suppresses_nothing() -> None:
    """The one between loses to the left one, so the right one need not fear it."""
    boxes = np.array([LEFT, BETWEEN, [9, 0, 18, 10]], np.float32)
    assert iou(boxes, boxes)[1, 2] > 0.3
    found = Cascade(0.05, nms_iou=0.3).undecided(boxes, cats(0.9, 0.3, 0.1))
    assert tuple(found) == (True, False, True)


def test_any_class_will_do() -> None:
    dog = np.array([[0.1, 0.9, 0.0], [0.4, 0.1, 0.5]], np.float32)
    assert Cascade(0.05, nms_iou=0.3).undecided(BOXES[:2], dog).all()


def literally(boxes: Boxes, probabilities: NDArray[np.float32], cascade: Cascade) -> list[bool]:
    overlaps = iou(boxes, boxes) > cascade.nms_iou
    found = [False] * len(boxes)
    for scores in probabilities.T[1:]:
        winners: list[int] = []
        for box in sorted(range(len(boxes)), key=lambda box: (-scores[box], box)):
            if scores[box] < cascade.threshold:
                continue
            better = [winner for winner in winners if overlaps[box, winner]]
            if all(scores[box] >= CLEARLY_WORSE * scores[winner] for winner in better):
                found[box] = True
            if not better:
                winners.append(box)
    return found


@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.sampled_from([0.05, 0.3, 0.6]))
def test_the_rule_word_by_word(seed: int, n: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 30, (n, 2))
    boxes = np.concatenate([first, first + rng.integers(1, 20, (n, 2))], axis=1).astype(np.float32)
    probabilities = rng.dirichlet([1, 0.5, 0.5], n).astype(np.float32)
    cascade = Cascade(threshold, nms_iou=0.3)
    found = cascade.undecided(boxes, probabilities)
    assert found.tolist() == literally(boxes, probabilities, cascade)
    settings = DetectionSettings(score_threshold=threshold + 1e-6)
    reported = {d.box for d in select_detections(boxes, probabilities, ("cat", "dog"), settings)}
    assert reported <= {tuple(box) for box in boxes[found].tolist()}, "all that wins stays open"

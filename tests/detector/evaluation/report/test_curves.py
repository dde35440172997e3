from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.evaluation.matching import columns
from detector.evaluation.report.curves import (
    POINTS,
    best_threshold,
    calibration,
    calibration_error,
    precision_by_recall,
    recall_by_iou,
    recall_by_number,
)
from detector.evaluation.score import Ranking


def ranking(right: list[bool], scores: list[float], objects: int) -> Ranking:
    nowhere = np.zeros(len(right), np.int64)
    flags = np.array(right, np.bool_)
    return Ranking(flags, nowhere, np.array(scores), np.zeros(objects, np.int64), len(right))


TWO_OF_FOUR = ranking([True, False, True, False], [0.9, 0.8, 0.4, 0.1], 4)


def test_precision_by_recall() -> None:
    assert precision_by_recall(TWO_OF_FOUR) == [(0.25, 1.0), (0.5, pytest.approx(2 / 3))]
    assert precision_by_recall(ranking([], [], 3)) == []
    assert precision_by_recall(ranking([False], [0.5], 0)) == []


def test_curves_stay_short_and_keep_their_ends() -> None:
    many = ranking([True] * 5000, np.linspace(1, 0, 5000).tolist(), 10_000)
    curve = precision_by_recall(many)
    assert len(curve) == POINTS
    assert curve[0] == (1e-4, 1.0)
    assert curve[-1] == (0.5, 1.0)
    assert len(recall_by_number([many], 10)) <= POINTS


def test_recall_by_number_pools_classes_by_score() -> None:
    other = ranking([True], [0.85], 1)
    curve = dict(recall_by_number([TWO_OF_FOUR, other], images=2))
    assert curve == {0.5: 0.2, 1.0: 0.4, 1.5: 0.4, 2.0: 0.6, 2.5: 0.6}
    assert recall_by_number([ranking([], [], 0)], images=2) == []


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=12), st.integers(1, 14))
def test_best_threshold_is_the_best_of_all(found: list[tuple[bool, int]], objects: int) -> None:
    found = sorted(found, key=lambda one: -one[1])
    right = [one and sum(r for r, _ in found[:n]) < objects for n, (one, _) in enumerate(found)]
    best = best_threshold(ranking(right, [score / 20 for _, score in found], objects))
    ends = [  # a threshold takes all detections of a score, or none
        n for n in range(1, len(found) + 1) if n == len(found) or found[n - 1][1] != found[n][1]
    ]
    f1 = [2 * sum(right[:n]) / (n + objects) for n in ends]
    if not any(right):
        assert best is None
    else:
        assert best is not None
        assert best.f1 == pytest.approx(max(f1))
        assert best.f1 == pytest.approx(
            2 * best.precision * best.recall / (best.precision + best.recall)
        )


def test_recall_by_iou() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [80, 80, 90, 90]], np.float32)
    difficult = np.array([False, False, True])
    image = AnnotatedImage("a", 100, 100, boxes, np.zeros(3, np.int64), difficult)
    truth = GroundTruth({"cat": 1, "dog": 2}, (image,))
    rows = [(0, 0, 0.1, 0, 0, 10, 8), (0, 0, 0.9, 0, 0, 10, 6), (0, 1, 0.9, 50, 50, 60, 60)]
    curve = dict(recall_by_iou(truth, columns(rows)))
    assert curve[0.5] == curve[0.8] == 0.5  # the dog on the second cat does not count
    assert curve[0.85] == 0
    assert recall_by_iou(GroundTruth({"cat": 1}, ()), columns([])) == []


def test_calibration() -> None:
    bins = calibration([TWO_OF_FOUR, ranking([True], [1.0], 1)])
    assert bins is not None
    assert [item.detections for item in bins] == [0, 1, 0, 0, 1, 0, 0, 0, 1, 2]
    assert bins[9].mean_score == pytest.approx(0.95)
    assert bins[9].right == 1
    assert bins[0].right is None
    # Distances 0.1, 0.6, 0.8 and twice 0.05.
    assert calibration_error(bins) == pytest.approx((0.1 + 0.6 + 0.8 + 2 * 0.05) / 5)


def test_calibration_without_probabilities() -> None:
    assert calibration([ranking([True], [-0.3], 1)]) is None
    nothing = calibration([ranking([], [], 1)])
    assert nothing is not None
    assert calibration_error(nothing) == 0

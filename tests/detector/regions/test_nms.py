from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.regions.nms import select_detections
from detector.results import Detection
from detector.settings import DetectionSettings
from proposals.boxes import iou

BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)
CLASSES = ("cat", "dog")


def table(cats: list[float], dogs: list[float]) -> NDArray[np.float32]:
    """Probabilities `[N, 3]`, the background first."""
    columns = np.array([np.zeros(len(cats)), cats, dogs], np.float32)
    return np.ascontiguousarray(columns.T)


def labels_and_scores(found: list[Detection]) -> list[tuple[str, float]]:
    return [(detection.label, detection.score) for detection in found]


def test_overlaps_are_suppressed_within_a_class_only() -> None:
    probabilities = table([0.5, 0.9, 0, 0], [0.7, 0.6, 0, 0])
    assert select_detections(BOXES, probabilities, CLASSES, DetectionSettings()) == [
        Detection("cat", 0.9, (0, 0, 10, 9)),
        Detection("dog", 0.7, (0, 0, 10, 10)),
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, [("cat", 0.9), ("dog", 0.8), ("cat", 0.4), ("cat", 0.05)], id="default"),
        pytest.param({"score_threshold": 0.5}, [("cat", 0.9), ("dog", 0.8)], id="score"),
        pytest.param({"max_detections": 2}, [("cat", 0.9), ("dog", 0.8)], id="an image"),
        pytest.param({"max_detections_per_class": 1}, [("cat", 0.9), ("dog", 0.8)], id="a class"),
        pytest.param({"classes": ["dog"]}, [("dog", 0.8)], id="classes"),
        pytest.param(
            {"nms_iou": 1.0, "max_detections": "all"},
            [("cat", 0.9), ("dog", 0.8), ("cat", 0.4), ("cat", 0.3), ("cat", 0.05)],
            id="no suppression",
        ),
    ],
)
def test_limits(settings: dict[str, object], expected: list[tuple[str, float]]) -> None:
    probabilities = table([0.9, 0.3, 0.4, 0.05], [0.02, 0.01, 0.8, 0.0])
    found = select_detections(
        BOXES, probabilities, CLASSES, DetectionSettings.model_validate(settings)
    )
    assert labels_and_scores(found) == expected


def test_equal_scores_rank_by_class_then_box() -> None:
    probabilities = table([0.5, 0.5, 0.5, 0.5], [0.5, 0.1, 0.5, 0.5])
    found = select_detections(BOXES, probabilities, CLASSES, DetectionSettings())
    assert [(d.label, d.box[0], d.box[3]) for d in found if d.score == 0.5] == [
        ("cat", 0, 10), ("cat", 20, 10), ("cat", 40, 10),
        ("dog", 0, 10), ("dog", 20, 10), ("dog", 40, 10),
    ]  # fmt: skip


def test_the_best_class_may_be_another() -> None:
    probabilities = np.array([[0.9, 0.06, 0.04]], np.float32)
    found = select_detections(BOXES[:1], probabilities, CLASSES, DetectionSettings())
    assert labels_and_scores(found) == [("cat", 0.06)]


def test_no_boxes() -> None:
    none = np.empty((0, 4), np.float32)
    assert select_detections(none, table([], []), CLASSES, DetectionSettings()) == []


@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_what_is_selected_is_a_proposal_and_overlaps_no_better_one(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 30, (n, 2))
    boxes = np.concatenate([first, first + rng.integers(1, 20, (n, 2))], axis=1).astype(np.float32)
    probabilities = rng.dirichlet([1, 1, 1], n).astype(np.float32)
    found = select_detections(boxes, probabilities, CLASSES, DetectionSettings())
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    for label in CLASSES:
        chosen = np.array([d.box for d in found if d.label == label], np.float32).reshape(-1, 4)
        overlaps = iou(chosen, chosen)
        assert (overlaps[~np.eye(len(chosen), dtype=np.bool_)] <= 0.3).all()
    proposed = {tuple(box) for box in boxes.tolist()}
    assert {d.box for d in found} <= proposed

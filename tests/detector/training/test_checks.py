from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError
from detector.training.checks import check_boxes, check_classes

FILE = Path("train.json")


def truth(*boxes: tuple[float, float, float, float]) -> GroundTruth:
    n = len(boxes)
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    labels, difficult = np.zeros(n, np.int64), np.zeros(n, np.bool_)
    image = AnnotatedImage("a/b.jpg", 100, 80, corners, labels, difficult)
    return GroundTruth({"cat": 1}, (image,))


@pytest.mark.parametrize(
    "box", [(0, 0, 100, 80), (-0.5, -1, 100.9, 81), (0.4, 0.4, 1.4, 80), (99, 79, 100, 80)]
)
def test_boxes_inside_are_fine(box: tuple[float, float, float, float]) -> None:
    check_boxes(truth(box), FILE)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((0, 0, 102, 80), "reaches out of the 100x80 photo"),
        ((-2, 0, 10, 10), r"b\.jpg: box 2 of 2 \(-2, 0, 10, 10\) reaches out of"),
        ((200, 200, 210, 210), "reaches out of"),
        ((5.1, 5, 5.4, 20), "has no whole pixel of the 100x80 photo"),
        ((100, 0, 101, 10), "has no whole pixel"),
    ],
)
def test_other_boxes_are_named(box: tuple[float, float, float, float], reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        check_boxes(truth((1, 1, 5, 5), box), FILE)
    assert str(caught.value).startswith("train.json: a/b.jpg: box 2 of 2 (")


def test_a_class_without_a_box() -> None:
    check_classes(truth((0, 0, 5, 5)), FILE)
    with pytest.raises(FormatError, match="class 'cat' has no box"):
        check_classes(truth(), FILE)
    with pytest.raises(FormatError, match="class 'cat' has no box"):
        check_classes(GroundTruth({"cat": 1}, ()), FILE)

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.evaluation.average_precision import area, hundred_and_one_points
from detector.evaluation.matching import Found, columns
from detector.evaluation.mistakes import IGNORED, KINDS, RIGHT, find

TIDE = {  # what tidecv 1.0.1 says of `scattered`: AP, then costs in percent by `KINDS`, and counts
    0: (
        25.2038417435717,
        (24.119788776249, 6.769804120603, 1.60434481004, 1.563203066848, 0.975751999007,
         9.088395828713),
        (88, 45, 40, 24, 13, 54),
    ),
    1: (
        26.68759616462081,
        (21.267181601276, 4.542225444568, 1.671292236252, 1.205732734359, 1.800157938461,
         12.486741133669),
        (67, 25, 41, 14, 19, 67),
    ),
    2: (
        27.002602102488943,
        (15.316834291302, 7.965610558066, 2.178662331218, 1.674620113305, 1.596392440995,
         11.388734545832),
        (70, 34, 53, 18, 15, 61),
    ),
}  # fmt: skip


def scattered(seed: int) -> tuple[GroundTruth, Found]:
    """Forty images of five objects of four classes, and detections near them."""
    rng = np.random.default_rng(seed)
    images, rows = [], []
    for number in range(40):
        boxes, labels = [], []
        for _ in range(5):
            label = int(rng.integers(1, 5)) - 1
            box = rng.integers(0, 400, 4) / 4 + [0, 0, 10, 10]
            boxes.append(box)
            labels.append(label)
            for _ in range(int(rng.integers(0, 4))):
                near = box + rng.normal(0, rng.choice([1.0, 6.0, 14.0]), 4).round(2)
                near[2:] = near[2:].clip(1)
                named = label if rng.random() < 0.7 else int(rng.integers(1, 5)) - 1
                x, y, w, h = near.round(2)
                score = round(float(rng.random()), 6)
                rows.append((number, named, score, x, y, x + w, y + h))
        images.append(image(number, np.array(boxes), labels))
    return ground_truth(images), columns(rows)


def image(number: int, sides: Any, labels: list[int], difficult: Any = False) -> AnnotatedImage:
    """Of boxes x, y, w, h."""
    boxes = np.array(sides, np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    marks = np.zeros(len(labels), np.bool_) | difficult
    return AnnotatedImage(
        f"{number}.jpg", 300, 300, boxes.astype(np.float32), np.array(labels), marks, number
    )


def ground_truth(images: list[AnnotatedImage]) -> GroundTruth:
    return GroundTruth({f"c{n}": n for n in range(1, 5)}, tuple(images))


@pytest.mark.parametrize("seed", TIDE)
def test_equals_tide(seed: int) -> None:
    truth, found = scattered(seed)
    mistakes = find(truth, found, hundred_and_one_points)
    mean_ap, costs, counts = TIDE[seed]
    assert 100 * mistakes.mean_ap == pytest.approx(mean_ap, abs=1e-9)
    assert [100 * mistakes.costs[kind] for kind in KINDS] == pytest.approx(costs, abs=1e-9)
    assert tuple(mistakes.counts[kind] for kind in KINDS) == counts


SQUARE = (0, 0, 100, 100)
HALF = (50, 0, 150, 100)  # IoU with the square: 1/3
AWAY = (200, 200, 250, 250)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([(0, 0.9, SQUARE)], [RIGHT], id="right"),
        pytest.param([(0, 0.9, HALF)], [KINDS.index("localisation")], id="beside its object"),
        pytest.param([(1, 0.9, SQUARE)], [KINDS.index("classification")], id="another class"),
        pytest.param(
            [(0, 0.8, SQUARE), (0, 0.9, SQUARE)],
            [KINDS.index("duplicate"), RIGHT],
            id="the better-scored one finds it, wherever it stands",
        ),
        pytest.param([(0, 0.9, AWAY)], [KINDS.index("background")], id="nothing there"),
        pytest.param([(1, 0.9, HALF)], [KINDS.index("both")], id="another class and beside it"),
    ],
)
def test_kinds(rows: list[Any], expected: list[int]) -> None:
    truth = ground_truth([image(0, [SQUARE], [0])])
    found = columns([(0, label, score, *box) for label, score, box in rows])
    assert find(truth, found, area).kinds.tolist() == expected


def test_a_mistake_about_an_object_keeps_it_from_being_missed() -> None:
    truth = ground_truth([image(0, [SQUARE, (200, 200, 50, 50)], [0, 1])])
    mistakes = find(truth, columns([(0, 0, 0.9, *HALF)]), area)
    assert mistakes.about.tolist() == [0]
    assert mistakes.missed.tolist() == [False, True]
    assert mistakes.costs["localisation"] == pytest.approx(0.5)  # one of two classes


def test_a_class_that_is_missed_altogether_costs_its_part() -> None:
    """Without the missed object class 1 has nothing in it: the mean is over class 0 alone."""
    truth = ground_truth([image(0, [SQUARE, (200, 200, 50, 50)], [0, 1])])
    mistakes = find(truth, columns([(0, 0, 0.9, *SQUARE)]), area)
    assert mistakes.mean_ap == 0.5
    assert mistakes.costs["missed"] == 0.5
    # Had it a detection, it would stay, with a score of 0, as tidecv has it.
    wrong = columns([(0, 0, 0.9, *SQUARE), (0, 1, 0.9, *AWAY[:2], 300, 205)])
    assert find(truth, wrong, area).costs["missed"] == 0


def test_boxes_without_area_are_background() -> None:
    truth = ground_truth([image(0, [SQUARE], [0], [False]), image(1, [SQUARE], [0], [True])])
    rows = [(n, 0, 0.9, *box) for n in (0, 1) for box in ((50, 50, 50, 60), (60, 60, 40, 40))]
    mistakes = find(truth, columns(rows), area)
    assert set(mistakes.kinds.tolist()) == {KINDS.index("background")}


def test_difficult_objects_make_no_mistakes() -> None:
    truth = ground_truth([image(0, [SQUARE, (200, 200, 50, 50)], [0, 1], [True, False])])
    rows = [(0, 0, 0.9, *SQUARE), (0, 0, 0.8, *HALF), (0, 1, 0.7, *SQUARE)]
    mistakes = find(truth, columns(rows), area)
    # Exactly half of HALF lies in the square: that is not more than half.
    assert mistakes.kinds.tolist() == [
        IGNORED,
        KINDS.index("background"),
        KINDS.index("background"),
    ]
    assert mistakes.missed.tolist() == [False, True]


def test_nothing_found_and_nothing_to_find() -> None:
    nothing = find(ground_truth([]), columns([]), area)
    assert nothing.mean_ap == 0
    assert set(nothing.counts.values()) == {0}
    all_missed = find(ground_truth([image(0, [SQUARE], [0])]), columns([]), area)
    assert all_missed.counts["missed"] == 1

"""The official rule: the kit's own figures, and a slow, literal version of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.datasets.ilsvrc import Validation, read_validation
from detector.evaluation.detections import read_submission
from detector.evaluation.ilsvrc import evaluate, plain, thresholds
from detector.evaluation.matching import Found
from detector.evaluation.score import Score

Box = tuple[float, float, float, float]  # inclusive


class Line(NamedTuple):
    image: int
    label: int
    confidence: float
    box: Box


class Object(NamedTuple):
    image: int
    label: int
    box: Box


CLASSES = 3


def literal(
    objects: list[Object],
    lines: list[Line],
    blacklist: set[tuple[int, int]],
    images: int,
    *,
    plain: bool = False,
) -> list[float | None]:
    """`eval_detection.m`, step by step."""
    positives = [0] * CLASSES
    for item in objects:
        positives[item.label] += (item.image, item.label) not in blacklist
    outcomes: list[tuple[Line, bool, bool]] = []  # in pooled order: line, true, false positive
    for image in range(images):
        here = [item for item in objects if item.image == image]
        free = [True] * len(here)
        mine = [line for line in lines if line.image == image]
        for line in sorted(mine, key=lambda line: -line.confidence):  # stable
            if (image, line.label) in blacklist:
                outcomes.append((line, False, False))
                continue
            best, best_overlap = -1, -math.inf
            for number, item in enumerate(here):
                if item.label != line.label or not free[number]:
                    continue
                overlap = literal_overlap(line.box, item.box)
                if overlap is None or overlap < (0.5 if plain else threshold(item.box)):
                    continue
                if overlap > best_overlap:
                    best, best_overlap = number, overlap
            if best >= 0:
                free[best] = False
            outcomes.append((line, best >= 0, best < 0))
    outcomes.sort(key=lambda outcome: -outcome[0].confidence)  # stable
    aps: list[float | None] = []
    for label in range(CLASSES):
        if positives[label] == 0:
            aps.append(None)
            continue
        recall, precision, true, false = [0.0], [0.0], 0, 0
        for line, is_true, is_false in outcomes:
            if line.label == label and (is_true or is_false):
                true, false = true + is_true, false + is_false
                recall.append(true / positives[label])
                precision.append(true / (true + false))
        recall.append(1.0)
        precision.append(0.0)
        for index in range(len(precision) - 2, -1, -1):
            precision[index] = max(precision[index], precision[index + 1])
        steps = range(1, len(recall))
        aps.append(sum((recall[i] - recall[i - 1]) * precision[i] for i in steps))
    return aps


def threshold(box: Box) -> float:
    w, h = box[2] - box[0] + 1, box[3] - box[1] + 1
    return min(0.5, w * h / ((w + 10) * (h + 10)))


def literal_overlap(a: Box, b: Box) -> float | None:
    w = min(a[2], b[2]) - max(a[0], b[0]) + 1
    h = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if w <= 0 or h <= 0:
        return None
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return w * h / (areas[0] + areas[1] - w * h)


def truth_of(objects: list[Object], images: int) -> GroundTruth:
    annotated = []
    for image in range(images):
        mine = [item for item in objects if item.image == image]
        boxes = np.array([item.box for item in mine], np.float32).reshape(-1, 4)
        boxes[:, 2:] += 1
        labels = np.array([item.label for item in mine], np.int64)
        none = np.zeros(len(mine), np.bool_)
        annotated.append(AnnotatedImage(f"{image}.jpg", 100, 100, boxes, labels, none))
    return GroundTruth({f"c{n}": n + 1 for n in range(CLASSES)}, tuple(annotated))


def submission_of(lines: Iterable[Line]) -> Found:
    rows = list(lines)
    return Found(
        np.array([line.image for line in rows], np.int64),
        np.array([line.label for line in rows], np.int64),
        np.array([line.confidence for line in rows], np.float64),
        np.array([line.box for line in rows], np.float64).reshape(-1, 4),
    )


def fast(
    objects: list[Object], lines: list[Line], blacklist: set[tuple[int, int]], images: int
) -> Score:
    return evaluate(truth_of(objects, images), submission_of(lines), blacklist=blacklist)[0]


# Few places and sizes, so that overlaps, equal ones among them, and small objects abound.
IMAGES = 3
images = st.integers(0, IMAGES - 1)
labels = st.integers(0, CLASSES - 1)
places, sizes = st.integers(0, 6), st.sampled_from([0, 1, 2, 5, 9, 10, 19])
object_boxes = st.tuples(places, places, sizes, sizes).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
shifts = st.tuples(*[st.sampled_from([-1.5, -1.0, 0.0, 0.0, 0.25, 1.0, 4.0])] * 4)
line_boxes = st.one_of(
    object_boxes,
    st.tuples(object_boxes, shifts).map(
        lambda pair: tuple(edge + shift for edge, shift in zip(*pair, strict=True))
    ),  # inverted ones among them
)
objects_lists = st.lists(st.builds(Object, images, labels, object_boxes), max_size=12)
lines_lists = st.lists(
    st.builds(Line, images, labels, st.sampled_from([0.1, 0.5, 0.5, 0.9]), line_boxes), max_size=25
)
blacklists = st.sets(st.tuples(images, labels), max_size=3)


@given(objects_lists, lines_lists, blacklists)
def test_equals_the_literal_rule(
    objects: list[Object], lines: list[Line], blacklist: set[tuple[int, int]]
) -> None:
    result = fast(objects, lines, blacklist, IMAGES)
    expected = literal(objects, lines, blacklist, IMAGES)
    assert [item.ap for item in result.classes] == [
        ap if ap is None else pytest.approx(ap, abs=1e-12) for ap in expected
    ]
    present = [ap for ap in expected if ap is not None]
    assert result.mean_ap == (pytest.approx(np.mean(present)) if present else None)
    assert result.median_ap == (pytest.approx(np.median(present)) if present else None)
    plain = [ap for ap in literal(objects, lines, set(), IMAGES, plain=True) if ap is not None]
    assert result.figures["mean_ap_iou50"] == (pytest.approx(np.mean(plain)) if plain else None)


@given(objects_lists, lines_lists, blacklists, st.randoms(use_true_random=False))
def test_the_order_of_lines_matters_among_equal_confidences_only(
    objects: list[Object],
    lines: list[Line],
    blacklist: set[tuple[int, int]],
    random: object,
) -> None:
    distinct = [line._replace(confidence=1 / (index + 1)) for index, line in enumerate(lines)]
    shuffled = list(distinct)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fast(objects, distinct, blacklist, IMAGES) == fast(objects, shuffled, blacklist, IMAGES)
    # Among equal ones it is the order of images that counts, and within an image that of lines.
    by_image = sorted(lines, key=lambda line: line.image)
    assert fast(objects, lines, blacklist, IMAGES) == fast(objects, by_image, blacklist, IMAGES)


@given(objects_lists, lines_lists, images, labels)
def test_a_false_positive_below_all_others_raises_no_ap(
    objects: list[Object], lines: list[Line], image: int, label: int
) -> None:
    before = fast(objects, lines, set(), IMAGES)
    wrong = Line(image, label, 0.01, (500, 500, 520, 520))
    after = fast(objects, [*lines, wrong], set(), IMAGES)
    for old, new in zip(before.classes, after.classes, strict=True):
        assert old.ap is None or new.ap == old.ap


def test_small_batches_of_pairs_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 30, (200, 2))
    objects = [
        Object(int(n % 3), int(n % 2), (x, y, x + 12.0, y + 9.0))
        for n, (x, y) in enumerate(corners)
    ]
    lines = [
        Line(
            item.image,
            item.label,
            float(rng.random()),
            tuple(np.add(item.box, rng.normal(0, 3, 4))),
        )
        for item in objects * 3
    ]
    whole = fast(objects, lines, set(), 3)
    monkeypatch.setattr("detector.evaluation.matching.PAIRS_AT_ONCE", 7)
    assert fast(objects, lines, set(), 3) == whole
    assert whole.mean_ap is not None
    assert 0.1 < whole.mean_ap < 0.9


def test_thresholds() -> None:
    boxes = np.array([[0, 0, 9, 9], [0, 0, 99, 99], [5, 5, 5, 5], [0, 0, 23, 24]], np.float64)
    expected = [100 / 400, 0.5, 1 / 121, 600 / (34 * 35)]
    assert thresholds(boxes).tolist() == [expected[0], 0.5, expected[2], 0.5]
    assert 600 / (34 * 35) > 0.5


def test_equality_with_the_threshold_is_enough() -> None:
    item = Object(0, 0, (0, 0, 99, 99))
    half = Line(0, 0, 0.5, (0, 0, 99, 49))
    assert fast([item], [half], set(), 1).classes[0].ap == 1
    less = Line(0, 0, 0.5, (0, 0, 99, 48.999))
    assert fast([item], [less], set(), 1).classes[0].ap == 0


def test_a_duplicate_may_find_another_object() -> None:
    """Unlike by VOC's rule, where the object that it overlaps most is taken already."""
    objects = [Object(0, 0, (0, 0, 99, 99)), Object(0, 0, (0, 0, 99, 79))]
    lines = [Line(0, 0, 0.9, (0, 0, 99, 99)), Line(0, 0, 0.8, (0, 0, 99, 94))]
    assert fast(objects, lines, set(), 1).classes[0].ap == 1


def test_blacklisted_pairs_do_not_count() -> None:
    objects = [Object(0, 0, (0, 0, 50, 50)), Object(1, 0, (0, 0, 50, 50))]
    lines = [Line(0, 0, 0.9, (60, 60, 70, 70)), Line(1, 0, 0.8, (0, 0, 50, 50))]
    result = fast(objects, lines, {(0, 0)}, 2)
    assert (result.classes[0].ap, result.classes[0].positives) == (1, 1)
    assert result.classes[0].detections == 2
    assert result.figures["mean_ap_iou50"] == pytest.approx(
        0.25
    )  # 1 of 2 objects at precision 1 / 2


def test_classes_without_objects_and_the_official_values() -> None:
    objects = [Object(0, 1, (0, 0, 50, 50))]
    found = Line(0, 1, 0.9, (0, 0, 50, 50))
    alone = fast(objects, [found], set(), 1)
    assert [item.ap for item in alone.classes] == [None, 1, None]
    assert (alone.mean_ap, alone.figures["official"]["mean_ap"]) == (
        1,
        0.5,
    )  # class 1 has AP 0 there
    spoilt = fast(objects, [found, Line(0, 0, 0.1, (0, 0, 5, 5))], set(), 1)
    assert spoilt.mean_ap == 1
    assert spoilt.figures["official"]["mean_ap"] is None
    assert spoilt.figures["official"]["not_a_number"] == ["c0"]
    beyond = fast(objects, [found, Line(0, 2, 0.1, (0, 0, 5, 5))], set(), 1)
    assert (
        beyond.figures["official"]["mean_ap"] == 0.5
    )  # the official code ends at the last class with objects
    nothing = fast([], [], set(), 1)
    assert (nothing.mean_ap, nothing.figures["official"]["mean_ap"]) == (None, None)
    assert fast(objects, [], set(), 1).mean_ap == 0


def test_inverted_boxes_are_counted() -> None:
    lines = [
        Line(0, 0, 0.9, (5, 5, 4, 9)),
        Line(0, 0, 0.9, (5, 5, 9, 4)),
        Line(0, 0, 0.9, (5, 5, 5, 5)),
    ]
    assert fast([], lines, set(), 1).figures["inverted_boxes"] == 2


def test_shared_classes() -> None:
    objects = [Object(0, 0, (0, 0, 50, 50)), Object(0, 1, (0, 0, 50, 50))]
    lines = submission_of([Line(0, 0, 0.9, (0, 0, 50, 50))])
    result, _ = evaluate(truth_of(objects, 1), lines, shared={0, 2})
    assert result.mean_ap == 0.5
    assert result.figures["shared"] == {"mean_ap": 1, "classes": ["c0", "c2"]}


@pytest.fixture(scope="module")
def kit(ilsvrc_devkit: Path) -> Validation:
    return read_validation("val", root=None, devkit=ilsvrc_devkit)


def test_the_demo_gives_the_official_figures(kit: Validation, ilsvrc_devkit: Path) -> None:
    file = ilsvrc_devkit / "evaluation" / "demo.val.pred.det.txt"
    found, classes, _ = read_submission(file, kit.truth)
    assert classes is None
    result, _ = evaluate(kit.truth, found, blacklist=kit.blacklist)
    assert result.mean_ap == pytest.approx(0.590060814138171, abs=1e-12)
    assert result.median_ap == pytest.approx(0.601198743524221, abs=1e-12)
    assert result.figures["official"]["mean_ap"] == result.mean_ap
    rounded = {item.name: round(item.ap, 3) for item in result.classes if item.ap is not None}
    assert len(rounded) == 200
    expected = {
        "accordion": 0.564, "airplane": 0.528, "ant": 0.548, "antelope": 0.626, "apple": 0.506,
        "water bottle": 0.521, "watercraft": 0.646, "whale": 0.548, "wine bottle": 0.610,
        "zebra": 0.772,
    }  # fmt: skip
    assert rounded | expected == rounded
    assert sum(item.positives for item in result.classes) == 54_609
    without, _ = evaluate(kit.truth, found)
    assert without.mean_ap == pytest.approx(0.588769, abs=5e-7)


def test_the_demo_on_val2_by_its_own_numbers(
    kit: Validation, ilsvrc_devkit: Path, tmp_path: Path
) -> None:
    val2 = read_validation("val2", root=None, devkit=ilsvrc_devkit)
    assert not val2.blacklist
    assert len(val2.truth.images) == 9917
    numbers = {image.file: image.image_id for image in val2.truth.images}
    official = [numbers.get(image.file) for image in kit.truth.images]
    lines = (ilsvrc_devkit / "evaluation" / "demo.val.pred.det.txt").read_text().splitlines()
    translated = tmp_path / "val2.txt"
    with open(translated, "w", encoding="utf-8") as file:
        for line in lines:
            image, rest = line.split(" ", 1)
            if (number := official[int(image) - 1]) is not None:
                file.write(f"{number} {rest}\n")
    result, _ = evaluate(val2.truth, read_submission(translated, val2.truth).found)
    assert result.mean_ap == pytest.approx(0.601683481, abs=1e-9)
    assert result.median_ap == pytest.approx(0.614881339, abs=1e-9)


@given(objects_lists, lines_lists, blacklists)
def test_what_counts_elsewhere(
    objects: list[Object], lines: list[Line], blacklist: set[tuple[int, int]]
) -> None:
    """Mistakes are found in what `plain` leaves: the IoU is the same, nothing listed counts."""
    truth, found = plain(truth_of(objects, IMAGES), submission_of(lines), blacklist)
    left = [line for line in lines if (line.image, line.label) not in blacklist]
    assert list(zip(found.images, found.labels, strict=True)) == [line[:2] for line in left]
    x1, y1, x2, y2 = found.boxes.T
    assert [(a, b, c - 1, d - 1) for a, b, c, d in zip(x1, y1, x2, y2, strict=True)] == [
        line.box for line in left
    ]
    for position, image in enumerate(truth.images):
        listed = [(position, label) in blacklist for label in image.labels]
        assert image.difficult.tolist() == listed

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.evaluation.average_precision import area, eleven_points
from detector.evaluation.detections import Unmatched, from_entries
from detector.evaluation.matching import Found
from detector.evaluation.score import Score
from detector.evaluation.voc import evaluate
from detector.formats.records import Entry
from detector.results import Detection

Box = tuple[float, float, float, float]
Object = tuple[Box, int, bool]  # box, label, difficult

A: Box = (0, 0, 10, 10)
A_HALF: Box = (0, 0, 10, 5)  # IoU with A: exactly 0.5
A_LESS: Box = (0, 0, 10, 4)
FAR: Box = (50, 50, 60, 60)


def truth(*images: list[Object], classes: tuple[str, ...] = ("cat", "dog")) -> GroundTruth:
    annotated = tuple(
        AnnotatedImage(
            f"{number}.jpg",
            100,
            100,
            np.array([box for box, _, _ in objects], np.float32).reshape(-1, 4),
            np.array([label for _, label, _ in objects], np.int64),
            np.array([difficult for _, _, difficult in objects], np.bool_),
        )
        for number, objects in enumerate(images)
    )
    return GroundTruth({name: 10 + label for label, name in enumerate(classes)}, annotated)


def entry(number: int, *found: tuple[str, float, Box]) -> Entry:
    return Entry(f"some/folder/{number}.jpg", 100, 100, {}, tuple(Detection(*f) for f in found))


def score(ground: GroundTruth, entries: list[Entry]) -> Score:
    return evaluate(ground, columns(ground, entries)[0])[0]


def columns(ground: GroundTruth, entries: list[Entry]) -> tuple[Found, Unmatched]:
    labels = {name: label for label, name in enumerate(ground.classes)}
    return from_entries(entries, ground.images, labels)


@pytest.mark.parametrize(
    ("objects", "found", "expected"),
    [
        pytest.param([(A, 0, False)], [], 0, id="nothing found"),
        pytest.param([(A, 0, False)], [("cat", 0.9, A)], 1, id="found"),
        pytest.param([(A, 0, False)], [("cat", 0.9, A_HALF)], 1, id="IoU of exactly a half"),
        pytest.param([(A, 0, False)], [("cat", 0.9, A_LESS)], 0, id="IoU under a half"),
        pytest.param([(A, 0, False)], [("dog", 0.9, A)], 0, id="another class"),
        pytest.param(
            [(A, 0, False), (FAR, 0, False)],
            [("cat", 0.9, A), ("cat", 0.8, A), ("cat", 0.7, FAR)],
            0.5 + 0.5 * 2 / 3,
            id="a duplicate is wrong",
        ),
        pytest.param(
            [(A, 0, False), (FAR, 0, True)],
            [("cat", 0.9, FAR), ("cat", 0.8, A)],
            1,
            id="a difficult object does not count",
        ),
        pytest.param([(A, 0, True)], [("cat", 0.9, A)], None, id="only difficult objects"),
        pytest.param([], [("cat", 0.9, A)], None, id="no object"),
    ],
)
def test_rule(objects: list[Object], found: list[tuple[str, float, Box]], expected: float) -> None:
    result = score(truth(objects), [entry(0, *found)])
    cat = result.classes[0]
    assert cat.ap == (expected if expected is None else pytest.approx(expected, abs=1e-12))


def test_overlaps_most_with_a_taken_object_is_wrong() -> None:
    """Unlike ILSVRC's rule, the second best object is not looked at."""
    near: Box = (0, 0, 10, 8)
    result = score(
        truth([(A, 0, False), (near, 0, False)]),
        [entry(0, ("cat", 0.9, A), ("cat", 0.8, (0, 0, 10, 9.5)))],
    )
    assert result.classes[0].ap == 0.5


def test_means_leave_out_classes_without_objects() -> None:
    result = score(truth([(A, 0, False)]), [entry(0, ("cat", 0.9, A), ("dog", 0.9, A))])
    assert [item.ap for item in result.classes] == [1.0, None]
    assert (result.mean_ap, result.figures["mean_ap_11point"], result.median_ap) == (1.0, 1.0, 1.0)
    content = result.to_json()
    assert content["mean_ap"] == 1.0
    classes: Any = content["classes"]
    assert classes[1] == {
        "id": 11, "name": "dog", "ap": None, "ap_11point": None, "positives": 0, "detections": 1,
    }  # fmt: skip


def test_no_object_at_all() -> None:
    result = score(truth([]), [])
    assert (result.mean_ap, result.median_ap) == (None, None)
    assert columns(truth([]), [])[1].images == ("0.jpg",)


def test_images_unknown_to_the_truth_are_left_out() -> None:
    result = score(truth([(A, 0, False)]), [entry(0, ("cat", 0.5, A)), entry(7, ("cat", 0.9, A))])
    assert result.classes[0].ap == 1
    assert result.classes[0].detections == 1


def test_equal_names_in_two_folders_are_two_images() -> None:
    annotated = truth([(A, 0, False)], [(A, 0, False)]).images
    ground = GroundTruth(
        {"cat": 1},
        tuple(
            dataclasses.replace(image, file=f"{folder}/x.jpg")
            for image, folder in zip(annotated, "ab", strict=True)
        ),
    )
    found = (Detection("cat", 0.9, A),)
    entries = [Entry(f"{folder}/x.jpg", 100, 100, {}, found) for folder in "ab"]
    assert score(ground, entries).mean_ap == 1
    elsewhere = [dataclasses.replace(entry, file=f"c/{entry.file}") for entry in entries]
    assert len(columns(ground, elsewhere)[1].images) == 2, "a name does not tell them apart"


def literal(ground: GroundTruth, entries: list[Entry], label: int) -> tuple[list[bool], int]:
    """`VOCevaldet.m`, detection after detection over all images."""
    name = list(ground.classes)[label]
    ranked = [
        (-d.score, number, index, d.box)
        for number, item in enumerate(entries)
        for index, d in enumerate(item.detections)
        if d.label == name
    ]
    taken: set[tuple[int, int]] = set()
    right = []
    for _, number, _, box in sorted(ranked, key=lambda item: item[:2]):
        image = ground.images[number]
        best, best_overlap = -1, -1.0
        for target in range(len(image.boxes)):
            if image.labels[target] != label:
                continue
            x1, y1, x2, y2 = image.boxes[target].tolist()
            width = min(x2, box[2]) - max(x1, box[0])
            height = min(y2, box[3]) - max(y1, box[1])
            shared = max(width, 0) * max(height, 0)
            both = (x2 - x1) * (y2 - y1) + (box[2] - box[0]) * (box[3] - box[1]) - shared
            if shared / both > best_overlap:
                best, best_overlap = target, shared / both
        if best_overlap >= 0.5 and image.difficult[best]:
            continue
        right.append(best_overlap >= 0.5 and (number, best) not in taken)
        if best_overlap >= 0.5:
            taken.add((number, best))
    positives = sum(int(((i.labels == label) & ~i.difficult).sum()) for i in ground.images)
    return right, positives


boxes = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(4, 6), st.integers(4, 6))
objects = st.tuples(boxes, st.integers(0, 1), st.booleans())
detections = st.tuples(st.sampled_from(["cat", "dog"]), st.sampled_from([0.2, 0.5, 0.9]), boxes)


@given(
    st.lists(st.tuples(st.lists(objects, max_size=4), st.lists(detections, max_size=6)), max_size=4)
)
def test_equals_the_literal_rule(
    images: list[tuple[list[Object], list[tuple[str, float, Box]]]],
) -> None:
    ground = truth(*(annotated for annotated, _ in images))
    entries = [
        entry(number, *sorted(found, key=lambda d: -d[1]))
        for number, (_, found) in enumerate(images)
    ]
    result = score(ground, entries)
    for label, item in enumerate(result.classes):
        right, positives = literal(ground, entries, label)
        assert item.positives == positives
        if not positives:
            assert item.ap is None
            continue
        flags = np.array(right, np.bool_)
        assert item.ap == area(flags, positives)
        assert item.figures["ap_11point"] == eleven_points(flags, positives)


def test_2010_has_the_area_alone() -> None:
    ground = truth([(A, 0, False)])
    score_2010, _ = evaluate(ground, columns(ground, [entry(0, ("cat", 0.9, A))])[0], year=2010)
    assert score_2010.mean_ap == 1
    assert "mean_ap_11point" not in score_2010.to_json()
    assert "2010 and later" in score_2010.rule

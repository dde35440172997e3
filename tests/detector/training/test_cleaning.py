from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError, SettingsError
from detector.training.cleaning import clean_classes, clean_truth
from detector.training.data_set import TREE_MARGIN, DataSet, DataSets

FILE = Path("train.json")
Corners = tuple[float, float, float, float]


def truth(*boxes: Corners) -> GroundTruth:
    n = len(boxes)
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    labels, difficult = np.zeros(n, np.int64), np.zeros(n, np.bool_)
    image = AnnotatedImage("a/b.jpg", 100, 80, corners, labels, difficult)
    return GroundTruth({"cat": 1}, (image,))


def clean(*boxes: Corners, margin: float = 0.01) -> tuple[list[Corners], list[str]]:
    cleaned, notes = clean_truth(truth(*boxes), FILE, margin, strict=False)
    return [tuple(box) for box in cleaned.images[0].boxes.tolist()], notes


@pytest.mark.parametrize("box", [(0, 0, 100, 80), (0, 0, 100.00001, 80), (99, 79, 100, 80)])
def test_boxes_inside_stay(box: Corners) -> None:
    kept, notes = clean(box)
    assert not notes
    np.testing.assert_array_equal(kept, np.array([box], np.float32))


@pytest.mark.parametrize("box", [(-0.5, -1, 100.9, 81), (0.4, 0.4, 1.4, 80)])
def test_boxes_of_trees_may_be_a_pixel_out(box: Corners) -> None:
    kept, notes = clean(box, margin=TREE_MARGIN)
    assert not notes
    np.testing.assert_array_equal(kept, np.array([box], np.float32))


@pytest.mark.parametrize(
    ("box", "left", "note"),
    [
        ((0, 0, 102, 80), (0, 0, 100, 80), "clipped: {} (0, 0, 102, 80) reaches out of"),
        ((0, 0, 100.5, 80), (0, 0, 100, 80), "clipped: {} (0, 0, 100.5, 80) reaches out of"),
        ((-2, 0, 10, 10), (0, 0, 10, 10), "clipped: {} (-2, 0, 10, 10) reaches out of"),
        ((200, 200, 210, 210), None, "dropped: {} (200, 200, 210, 210) has no whole pixel of"),
        ((5.1, 5, 5.4, 20), None, "dropped: {} (5.1, 5, 5.4, 20) has no whole pixel of"),
        ((9, 9, 9, 20), None, "dropped: {} (9, 9, 9, 20) has no whole pixel of"),
        ((20, 20, 10, 30), None, "dropped: {} (20, 20, 10, 30) has no whole pixel of"),
    ],
)
def test_other_boxes_are_clipped_or_dropped(box: Corners, left: Corners | None, note: str) -> None:
    good = (1.0, 1.0, 5.0, 5.0)
    expected = note.format("a/b.jpg: box 2 of 2") + " the 100x80 photo"
    kept, notes = clean(good, box)
    assert kept == [good, *([left] if left else [])]
    assert notes == [f"train.json: 1 box is {expected}"]
    with pytest.raises(FormatError) as caught:
        clean_truth(truth(good, box), FILE, 0.01, strict=True)
    assert str(caught.value) == f"train.json: {expected.partition(': ')[2]}"


numbers = st.integers(-200, 300) | st.floats(-1e6, 1e6, width=32)


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=4))
def test_what_is_left_lies_inside_and_is_counted(boxes: list[Corners]) -> None:
    kept, notes = clean(*boxes)
    for x1, y1, x2, y2 in kept:
        assert -0.01 <= x1 < x2 <= 100.01
        assert -0.01 <= y1 < y2 <= 80.01
    dropped = [note for note in notes if "dropped" in note]
    assert len(kept) == len(boxes) - (int(dropped[0].split(": ")[1].split()[0]) if dropped else 0)


def data_set(*labels: int, classes: tuple[str, ...] = ("cat", "dog", "cow")) -> DataSet:
    boxes = np.tile(np.array([1, 1, 9, 9], np.float32), (len(labels), 1))
    image = AnnotatedImage(
        "a.jpg", 10, 10, boxes, np.array(labels, np.int64), np.zeros(len(labels), np.bool_)
    )
    ids = {name: number for number, name in enumerate(classes)}
    return DataSet(FILE, GroundTruth(ids, (image,)), Path())


def test_classes_without_a_box_are_left_out() -> None:
    data = data_set(0, 2)
    cleaned, notes = clean_classes(DataSets(data, data_set(2), None), strict=False)
    assert list(cleaned.data.truth.classes) == ["cat", "cow"]
    assert cleaned.data.truth.images[0].labels.tolist() == [0, 1]
    assert cleaned.validation is not None
    assert cleaned.validation.truth.images[0].labels.tolist() == [1]
    assert notes == ["train.json: class 'dog' has no box and is left out"]
    with pytest.raises(FormatError, match="class 'dog' has no box: remove the class"):
        clean_classes(DataSets(data, None, None), strict=True)


def test_many_classes_without_a_box_are_counted() -> None:
    names = tuple(f"class {number}" for number in range(13))
    (note,) = clean_classes(DataSets(data_set(0, classes=names), None, None), strict=False)[1]
    assert note.startswith("train.json: 12 classes have no box and are left out: 'class 1', ")
    assert note.endswith("'class 10' and 2 more")


def test_what_classes_are_refused() -> None:
    with pytest.raises(FormatError, match="class 'cat' has no box"):
        clean_classes(DataSets(data_set(), None, None), strict=False)
    with pytest.raises(FormatError, match="unknown class 'dog'; there are cat, cow in"):
        clean_classes(DataSets(data_set(0, 2), data_set(1), None), strict=False)
    with pytest.raises(SettingsError, match="has other classes than"):
        clean_classes(DataSets(data_set(0), data_set(0, classes=("cat",)), None), strict=False)


def test_classes_that_all_have_boxes_stay() -> None:
    data_sets = DataSets(data_set(0, 1, 2), None, None)
    assert clean_classes(data_sets, strict=True) == (data_sets, [])


@pytest.mark.parametrize("name", ["with/without", "../../x", "..", "a\\b", " cat", "x" * 300])
def test_classes_that_no_bundle_can_have_are_refused_before_the_work(name: str) -> None:
    with pytest.raises(FormatError, match=r"train\.json: class '.*' must "):
        clean_classes(DataSets(data_set(0, classes=(name,)), None, None), strict=False)

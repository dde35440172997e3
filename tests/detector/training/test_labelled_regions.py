"""R-CNN's labels against a literal version."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detector.datasets.ground_truth import AnnotatedImage
from detector.training.labelled_regions import IGNORED, label_boxes, pool_regions
from detector.training.settings import Sampling
from proposals.types import Boxes

SIDE = 40


def image(boxes: Boxes, labels: list[int]) -> AnnotatedImage:
    none = np.zeros(len(labels), np.bool_)
    return AnnotatedImage("a.png", SIDE, SIDE, boxes, np.array(labels, np.int64), none)


def boxes_of(*corners: tuple[int, int, int, int]) -> Boxes:
    return np.array(corners, np.float32).reshape(-1, 4)


edges = st.lists(st.integers(0, SIDE), min_size=2, max_size=2, unique=True).map(sorted)
corners = st.tuples(edges, edges).map(lambda e: (e[0][0], e[1][0], e[0][1], e[1][1]))


def literal_iou(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    pixels = [{(x, y) for x in range(x1, x2) for y in range(y1, y2)} for x1, y1, x2, y2 in (a, b)]
    return len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])


@given(
    st.lists(corners, min_size=1, max_size=5),
    st.lists(st.tuples(corners, st.integers(0, 2)), max_size=4),
    st.sampled_from([(0.5, 0.5), (0.6, 0.3)]),
)
def test_labels_are_those_of_the_literal_rule(
    proposals: list[tuple[int, int, int, int]],
    objects: list[tuple[tuple[int, int, int, int], int]],
    thresholds: tuple[float, float],
) -> None:
    sampling = Sampling(foreground_iou=thresholds[0], background_iou=thresholds[1])
    truth = image(boxes_of(*(box for box, _ in objects)), [number for _, number in objects])
    labels, near_object = label_boxes(boxes_of(*proposals), truth, sampling)
    for box, given_label, is_near in zip(proposals, labels, near_object, strict=True):
        overlaps = [literal_iou(box, other) for other, _ in objects]
        best = max(overlaps, default=0.0)
        if best >= thresholds[0]:
            assert given_label == 1 + objects[overlaps.index(best)][1]
        else:
            assert given_label == (0 if best < thresholds[1] else IGNORED)
        assert is_near == (best >= 0.1)


def test_annotated_boxes_are_regions_too() -> None:
    truth = image(boxes_of((0, 0, 10, 10)), [1])
    regions = pool_regions([(truth, boxes_of((20, 20, 30, 30), (0, 0, 10, 10)))], Sampling())
    assert regions.boxes.tolist() == [[0, 0, 10, 10], [20, 20, 30, 30]]
    assert regions.labels.tolist() == [2, 0]
    assert regions.images.tolist() == [0, 0]

"""R-CNN's labels against a literal version, and what batches are made of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import TrainingError
from detector.training.sampling import IGNORED, Sampler, few_objects, label, pool
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
    labels, near = label(boxes_of(*proposals), truth, sampling)
    for box, given_label, is_near in zip(proposals, labels, near, strict=True):
        overlaps = [literal_iou(box, other) for other, _ in objects]
        best = max(overlaps, default=0.0)
        if best >= thresholds[0]:
            assert given_label == 1 + objects[overlaps.index(best)][1]
        else:
            assert given_label == (0 if best < thresholds[1] else IGNORED)
        assert is_near == (best >= 0.1)


def test_annotated_boxes_are_regions_too() -> None:
    truth = image(boxes_of((0, 0, 10, 10)), [1])
    regions = pool([(truth, boxes_of((20, 20, 30, 30), (0, 0, 10, 10)))], Sampling())
    assert regions.boxes.tolist() == [[0, 0, 10, 10], [20, 20, 30, 30]]
    assert regions.labels.tolist() == [2, 0]
    assert regions.photos.tolist() == [0, 0]


def test_a_batch_is_foreground_then_background() -> None:
    objects, background = boxes_of((0, 0, 10, 10)), boxes_of((0, 3, 10, 20), (30, 30, 40, 40))
    sampling = Sampling(foreground=3, background=8, near=0.25)
    regions = pool([(image(objects, [0]), background)], sampling)
    chosen = Sampler(regions, sampling, ("a",)).draw(np.random.default_rng(0))
    assert regions.labels[chosen].tolist() == [1] * 3 + [0] * 8
    assert regions.near[chosen[3:5]].all()  # a quarter of the background


def test_balanced_classes_are_drawn_equally_often() -> None:
    common = [boxes_of((n, 0, n + 10, 10)) for n in range(20)]
    truth = image(np.concatenate([*common, boxes_of((0, 20, 10, 30))]), [0] * 20 + [1])
    regions = pool([(truth, boxes_of((30, 30, 40, 40)))], Sampling())
    rare = {}
    for balanced in (0.0, 1.0):
        sampling = Sampling(foreground=1000, background=1, balanced=balanced)
        chosen = Sampler(regions, sampling, ("a", "b")).draw(np.random.default_rng(0))
        rare[balanced] = float((regions.labels[chosen] == 2).mean())
    assert rare[0.0] == pytest.approx(1 / 21, abs=0.03)
    assert rare[1.0] == pytest.approx(1 / 2, abs=0.06)


def test_what_cannot_be_sampled() -> None:
    truth = image(boxes_of((0, 0, 10, 10)), [0])
    regions = pool([(truth, boxes_of((30, 30, 40, 40)))], Sampling())
    with pytest.raises(TrainingError, match="class 'b' has no box"):
        Sampler(regions, Sampling(), ("a", "b"))
    regions = pool([(truth, boxes_of())], Sampling())
    with pytest.raises(TrainingError, match="no proposal is background"):
        Sampler(regions, Sampling(), ("a",))


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=6),
    st.integers(1, 4),
    st.integers(0, 100),
)
def test_few_objects_of_each_class(photos: list[list[int]], count: int, seed: int) -> None:
    images = []
    for number, labels in enumerate(photos):
        boxes = boxes_of(*((number, place, 30, 30) for place in range(len(labels))))
        images.append(image(boxes, labels))
    found = few_objects(images, count, np.random.default_rng(seed))
    drawn = [int(n) for one in found for n in one.labels]
    every = [n for labels in photos for n in labels]
    for number in range(4):
        assert drawn.count(number) == min(count, every.count(number))
    for one in found:
        assert len(one.labels) > 0
        for box, number in zip(one.boxes.astype(int).tolist(), one.labels, strict=True):
            assert photos[box[0]][box[1]] == number

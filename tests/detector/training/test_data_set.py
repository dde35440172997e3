from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detector.datasets.ground_truth import AnnotatedImage
from detector.training.data_set import limit_objects
from proposals.types import Boxes

SIDE = 40


def image(boxes: Boxes, labels: list[int]) -> AnnotatedImage:
    none = np.zeros(len(labels), np.bool_)
    return AnnotatedImage("a.png", SIDE, SIDE, boxes, np.array(labels, np.int64), none)


def boxes_of(*corners: tuple[int, int, int, int]) -> Boxes:
    return np.array(corners, np.float32).reshape(-1, 4)


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
    found = limit_objects(images, count, np.random.default_rng(seed))
    drawn = [int(n) for one in found for n in one.labels]
    every = [n for labels in photos for n in labels]
    for number in range(4):
        assert drawn.count(number) == min(count, every.count(number))
    for one in found:
        assert len(one.labels) > 0
        for box, number in zip(one.boxes.astype(int).tolist(), one.labels, strict=True):
            assert photos[box[0]][box[1]] == number

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from proposals.boxes import iou
from proposals.multibox import (
    SOURCE,
    WHOLE,
    MultiBox,
    View,
    select_proposals,
    to_pixels,
)

seeds = st.integers(0, 10_000)


def boxes(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Random boxes `[count, 4]` as shares of an image's sides."""
    corners = rng.random((count, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)


def test_boxes_of_views_in_pixels_of_the_image() -> None:
    shares = np.array([[0.0, 0.5, 1.0, 1.5], [-0.25, 0.0, 0.5, 0.5]], np.float32)
    whole = to_pixels(shares, WHOLE, 200, 100)
    assert whole.tolist() == [[0, 50, 200, 100], [0, 0, 100, 50]]  # clipped to the image
    right = to_pixels(shares, View(0.5, 0.0, 1.0, 0.5), 200, 100)
    assert right.tolist() == [[100, 25, 200, 75], [75, 0, 150, 25]]  # a box may leave its view


@given(seeds, st.integers(0, 40), st.integers(1, 20), st.sampled_from([0.3, 0.8, 1.0]))
def test_the_most_confident_boxes_are_selected(
    seed: int, n: int, count: int, nms_iou: float
) -> None:
    rng = np.random.default_rng(seed)
    candidates = boxes(rng, n).astype(np.float64) * 50
    logits = rng.normal(0, 3, n).astype(np.float32)
    chosen = select_proposals(candidates, logits, count, nms_iou)
    expected: list[list[float]] = []
    for index in np.argsort(-logits, kind="stable"):
        box = np.floor(candidates[index] + 0.5).astype(np.float32)
        empty = box[0] >= box[2] or box[1] >= box[3]
        near = any(iou(box[None], np.array([b], np.float32))[0, 0] > nms_iou for b in expected)
        if not (empty or near or len(expected) == count):
            expected.append(box.tolist())
    assert chosen.boxes.tolist() == sorted(expected)
    assert set(chosen.sources) <= {SOURCE}
    assert ((chosen.scores >= 0) & (chosen.scores <= 1)).all()


def test_all_views_of_an_image_are_seen() -> None:
    calls: list[NDArray[np.uint8]] = []

    def network(views: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        calls.append(views)
        n = len(views)
        middle = np.tile(np.array([0.25, 0.25, 0.75, 0.75], np.float32), (n, 1, 1))
        return middle, np.array([[0.0], [2.0]], np.float32)

    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 100:] = 255
    multibox = MultiBox(network, size=32, views=(WHOLE, View(0.5, 0, 1, 1)))
    found = multibox(image)
    (views,) = calls
    assert views.shape == (2, 32, 32, 3)
    assert views[0].mean() == pytest.approx(127.5)
    assert (views[1] == 255).all()
    assert found.boxes.tolist() == [[50, 25, 150, 75], [125, 25, 175, 75]]
    assert found.scores.tolist() == pytest.approx([0.5, 1 / (1 + math.exp(-2))])


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (500, 1, 3)])
def test_tiny_images(shape: tuple[int, int, int]) -> None:
    def network(views: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        n = len(views)
        return np.full((n, 1, 4), [0, 0, 1, 1], np.float32), np.zeros((n, 1), np.float32)

    views = (WHOLE, View(0.4, 0.4, 1, 1))
    found = MultiBox(network, size=32, views=views)(np.zeros(shape, np.uint8))
    assert [0, 0, shape[1], shape[0]] in found.boxes.tolist()

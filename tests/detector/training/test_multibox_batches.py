"""The views of images that MultiBox sees in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.bundles.manifest import Normalisation, Warp
from detector.datasets.ground_truth import AnnotatedImage
from detector.training.augmentation import CropPlan
from detector.training.batch_crops import cut_batch
from detector.training.distortion import NEUTRAL
from detector.training.multibox_batches import draw_view, objects_in
from detector.training.settings import Views
from proposals.multibox import MultiBox


@pytest.mark.parametrize(("width", "height"), [(500, 375), (200, 40), (40, 200), (50, 50)])
def test_views_in_training_are_those_in_detection(width: int, height: int) -> None:
    """Also where one axis shrinks and the other grows."""
    seen: list[NDArray[np.uint8]] = []

    def network(views: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        seen.append(views)
        return np.zeros((1, 1, 4), np.float32), np.zeros((1, 1), np.float32)

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    MultiBox(network, size=96)(image)
    whole = np.array([[0, 0, width, height]], np.float32)
    n = np.zeros(1, np.int64)
    plan = CropPlan(n.astype(np.int32), whole, n, n.astype(np.bool_), NEUTRAL[None])
    plain = Normalisation(channels="rgb", mean=(0, 0, 0))
    warp = Warp(crop_size=96, context=0, resampling="area")
    trained = cut_batch(plan, {0: image}, warp, plain, torch.device("cpu"))[0].numpy()
    assert np.abs(trained - seen[0][0]).max() <= 1.5  # of 255: rounding


IMAGE = AnnotatedImage(
    "a",
    200,
    100,
    np.array([[0, 0, 100, 100], [150, 50, 200, 100], [20, 20, 30, 30]], np.float32),
    np.zeros(3, np.int64),
    np.zeros(3, np.bool_),
)


def test_objects_of_a_part() -> None:
    window = np.array([50, 0, 150, 100], np.float32)
    # Half of the first is inside, none of the others.
    assert objects_in(IMAGE, window, 0.5).tolist() == [[0, 0, 0.5, 1]]
    assert objects_in(IMAGE, window, 0.51).tolist() == []
    whole = np.array([0, 0, 200, 100], np.float32)
    assert objects_in(IMAGE, whole, 1).tolist()[1] == [0.75, 0.5, 1, 1]


@given(st.integers(0, 10_000), st.integers(1, 3000), st.integers(1, 3000))
def test_views_are_parts_of_the_image(seed: int, width: int, height: int) -> None:
    nothing = np.zeros((0, 4), np.float32)
    image = AnnotatedImage(
        "a", width, height, nothing, np.zeros(0, np.int64), np.zeros(0, np.bool_)
    )
    rng = np.random.default_rng(seed)
    for whole in (0.0, 1.0):
        x1, y1, x2, y2 = draw_view(image, Views(whole=whole, smallest=0.2), rng).tolist()
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        if whole:
            assert (x1, y1, x2, y2) == (0, 0, width, height)
        elif min(width, height) > 100:
            assert (x2 - x1) * (y2 - y1) >= 0.19 * width * height

"""Batches from many images against the detector's own crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detector.bundles.manifest import Normalisation, Warp
from detector.regions.crops import cut, normalise
from detector.training import batch_crops
from detector.training.augmentation import CropPlan
from detector.training.batch_crops import cut_batch
from detector.training.distortion import NEUTRAL
from proposals import Image

CPU = torch.device("cpu")
NORMALISATION = Normalisation(std=(2.0, 3.0, 4.0))


@pytest.fixture
def images() -> dict[int, Image]:
    rng = np.random.default_rng(0)
    sides = {0: (60, 90), 1: (80, 50), 2: (200, 300)}
    return {n: rng.integers(0, 256, (*side, 3), np.uint8) for n, side in sides.items()}


@pytest.fixture
def plan(images: dict[int, Image]) -> CropPlan:
    rng = np.random.default_rng(1)
    numbers = rng.integers(3, size=24)
    boxes = []
    for number in numbers:
        height, width = images[number].shape[:2]
        x = np.sort(rng.choice(width + 1, 2, replace=False))
        y = np.sort(rng.choice(height + 1, 2, replace=False))
        boxes.append([x[0], y[0], x[1], y[1]])
    return CropPlan(
        numbers.astype(np.int32),
        np.array(boxes, np.float32),
        np.arange(24),
        rng.random(24) < 0.5,
        np.tile(NEUTRAL, (24, 1)),
    )


@pytest.mark.parametrize("resampling", ["bilinear", "area"])
def test_crops_are_the_detectors_own(
    plan: CropPlan, images: dict[int, Image], resampling: str
) -> None:
    warp = Warp.model_validate({"crop_size": 64, "resampling": resampling})
    crops = cut_batch(plan, images, warp, NORMALISATION, CPU)
    for index, number in enumerate(plan.images.tolist()):
        pixels = normalise(images[number], NORMALISATION)
        alone = cut(pixels, plan.boxes[[index]], warp, plan.mirrored[[index]])
        torch.testing.assert_close(crops[[index]], torch.from_numpy(alone), atol=2e-4, rtol=0)


@pytest.mark.parametrize("at_once", [64_000_000, 40_000])
def test_cut_on_a_gpu_equals_cut_on_a_processor(
    plan: CropPlan, images: dict[int, Image], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU's way, run here: several images in one stack of tables."""
    monkeypatch.setattr(batch_crops, "PIXELS_AT_ONCE", at_once)
    warp = Warp(crop_size=64, resampling="bilinear")
    expected = cut_batch(plan, images, warp, NORMALISATION, CPU)
    tensors = {number: torch.from_numpy(image) for number, image in images.items()}
    device = torch.device("meta")  # any that is not "cpu": tensors stay where they are
    crops = cut_batch(plan, tensors, warp, NORMALISATION, device)
    torch.testing.assert_close(crops, expected, atol=2e-3, rtol=0)


def test_distortion_leaves_the_padding_alone(plan: CropPlan, images: dict[int, Image]) -> None:
    warp = Warp(crop_size=64)
    whole = np.array([[0, 0, images[n].shape[1], images[n].shape[0]] for n in plan.images])
    plan = plan._replace(boxes=whole.astype(np.float32))
    plain = cut_batch(plan, images, warp, NORMALISATION, CPU)
    strong = np.tile(np.array([1.5, 0.5, 40], np.float32), (24, 1))
    distorted = cut_batch(plan._replace(distortions=strong), images, warp, NORMALISATION, CPU)
    padding = (plain == 0).all(dim=3)
    assert 0.1 < padding.float().mean() < 0.5
    assert (distorted[padding] == 0).all()
    assert (distorted[~padding] != plain[~padding]).any(dim=1).float().mean() > 0.99

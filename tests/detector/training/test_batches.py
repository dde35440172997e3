"""Batches from many photos against the detector's own crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detector.bundles.manifest import Normalisation, Warp
from detector.datasets.ground_truth import AnnotatedImage
from detector.regions.crops import cut, normalise
from detector.training import batches
from detector.training.batches import Batch, cut_batch, vary
from detector.training.distortion import NEUTRAL
from detector.training.sampling import Regions, label, pool
from detector.training.settings import RegionAugmentation, Sampling
from proposals import Image

CPU = torch.device("cpu")
NORMALISATION = Normalisation(std=(2.0, 3.0, 4.0))


@pytest.fixture
def photos() -> dict[int, Image]:
    rng = np.random.default_rng(0)
    sides = {0: (60, 90), 1: (80, 50), 2: (200, 300)}
    return {n: rng.integers(0, 256, (*side, 3), np.uint8) for n, side in sides.items()}


@pytest.fixture
def batch(photos: dict[int, Image]) -> Batch:
    rng = np.random.default_rng(1)
    numbers = rng.integers(3, size=24)
    boxes = []
    for number in numbers:
        height, width = photos[number].shape[:2]
        x = np.sort(rng.choice(width + 1, 2, replace=False))
        y = np.sort(rng.choice(height + 1, 2, replace=False))
        boxes.append([x[0], y[0], x[1], y[1]])
    return Batch(
        numbers.astype(np.int32),
        np.array(boxes, np.float32),
        np.arange(24),
        rng.random(24) < 0.5,
        np.tile(NEUTRAL, (24, 1)),
    )


@pytest.mark.parametrize("resampling", ["bilinear", "area"])
def test_crops_are_the_detectors_own(
    batch: Batch, photos: dict[int, Image], resampling: str
) -> None:
    warp = Warp.model_validate({"crop_size": 64, "resampling": resampling})
    crops = cut_batch(batch, photos, warp, NORMALISATION, CPU)
    for index, number in enumerate(batch.photos.tolist()):
        pixels = normalise(photos[number], NORMALISATION)
        alone = cut(pixels, batch.boxes[[index]], warp, batch.mirrored[[index]])
        torch.testing.assert_close(crops[[index]], torch.from_numpy(alone), atol=2e-4, rtol=0)


@pytest.mark.parametrize("at_once", [64_000_000, 40_000])
def test_cut_on_a_gpu_equals_cut_on_a_processor(
    batch: Batch, photos: dict[int, Image], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU's way, run here: several photos in one stack of tables."""
    monkeypatch.setattr(batches, "PIXELS_AT_ONCE", at_once)
    warp = Warp(crop_size=64, resampling="bilinear")
    expected = cut_batch(batch, photos, warp, NORMALISATION, CPU)
    tensors = {number: torch.from_numpy(photo) for number, photo in photos.items()}
    device = torch.device("meta")  # any that is not "cpu": tensors stay where they are
    crops = cut_batch(batch, tensors, warp, NORMALISATION, device)
    torch.testing.assert_close(crops, expected, atol=2e-3, rtol=0)


def test_distortion_leaves_the_padding_alone(batch: Batch, photos: dict[int, Image]) -> None:
    warp = Warp(crop_size=64)
    whole = np.array([[0, 0, photos[n].shape[1], photos[n].shape[0]] for n in batch.photos])
    batch = batch._replace(boxes=whole.astype(np.float32))
    plain = cut_batch(batch, photos, warp, NORMALISATION, CPU)
    strong = np.tile(np.array([1.5, 0.5, 40], np.float32), (24, 1))
    distorted = cut_batch(batch._replace(distortions=strong), photos, warp, NORMALISATION, CPU)
    padding = (plain == 0).all(dim=3)
    assert 0.1 < padding.float().mean() < 0.5
    assert (distorted[padding] == 0).all()
    assert (distorted[~padding] != plain[~padding]).any(dim=1).float().mean() > 0.99


def regions() -> tuple[AnnotatedImage, Regions]:
    boxes = np.array([[10, 10, 40, 40], [50, 20, 90, 60]], np.float32)
    image = AnnotatedImage("a", 100, 80, boxes, np.array([0, 1]), np.zeros(2, np.bool_))
    rng = np.random.default_rng(0)
    proposals = rng.integers(0, 40, (200, 4)).astype(np.float32)
    proposals[:, 2:] += proposals[:, :2] + 1
    return image, pool([(image, proposals)], Sampling())


def test_jittered_boxes_have_the_labels_of_where_they_are() -> None:
    image, pooled = regions()
    chosen = np.arange(len(pooled.labels))
    rng = np.random.default_rng(0)
    batch = vary(pooled, chosen, [image], RegionAugmentation(jitter=0.3), Sampling(), rng)
    assert (batch.boxes != pooled.boxes).any(axis=1).mean() > 0.9
    assert (batch.labels != pooled.labels).any()
    expected, _ = label(batch.boxes, image, Sampling())
    np.testing.assert_array_equal(batch.labels, expected)
    assert (batch.boxes >= 0).all()
    assert (batch.boxes[:, 2:] <= [100, 80]).all()
    np.testing.assert_array_equal(batch.boxes, batch.boxes.round())


def test_jitter_makes_no_object_background() -> None:
    image, _ = regions()
    objects = pool([(image, image.boxes[:0])], Sampling())
    chosen = np.zeros(500, np.int64)
    rng = np.random.default_rng(0)
    batch = vary(objects, chosen, [image], RegionAugmentation(jitter=0.45), Sampling(), rng)
    assert (batch.labels > 0).all()
    assert len(np.unique(batch.boxes, axis=0)) > 50


def test_without_augmentation_regions_stay_as_they_are() -> None:
    image, pooled = regions()
    chosen = np.array([3, 5])
    plain = RegionAugmentation(mirror=False)
    batch = vary(pooled, chosen, [image], plain, Sampling(), np.random.default_rng(0))
    np.testing.assert_array_equal(batch.boxes, pooled.boxes[chosen])
    assert not batch.mirrored.any()
    assert (batch.distortions == NEUTRAL).all()
    assert batch.part(slice(1, None, 2)).boxes.tolist() == batch.boxes[1:].tolist()

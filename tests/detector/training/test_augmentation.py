from __future__ import annotations

import numpy as np

from detector.datasets.ground_truth import AnnotatedImage
from detector.training.augmentation import augment_regions
from detector.training.distortion import NEUTRAL
from detector.training.labelled_regions import LabelledRegions, label_boxes, pool_regions
from detector.training.settings import RegionAugmentation, Sampling


def regions() -> tuple[AnnotatedImage, LabelledRegions]:
    boxes = np.array([[10, 10, 40, 40], [50, 20, 90, 60]], np.float32)
    image = AnnotatedImage("a", 100, 80, boxes, np.array([0, 1]), np.zeros(2, np.bool_))
    rng = np.random.default_rng(0)
    proposals = rng.integers(0, 40, (200, 4)).astype(np.float32)
    proposals[:, 2:] += proposals[:, :2] + 1
    return image, pool_regions([(image, proposals)], Sampling())


def test_jittered_boxes_have_the_labels_of_where_they_are() -> None:
    image, pooled = regions()
    chosen = np.arange(len(pooled.labels))
    rng = np.random.default_rng(0)
    plan = augment_regions(pooled, chosen, [image], RegionAugmentation(jitter=0.3), Sampling(), rng)
    assert (plan.boxes != pooled.boxes).any(axis=1).mean() > 0.9
    assert (plan.labels != pooled.labels).any()
    expected, _ = label_boxes(plan.boxes, image, Sampling())
    np.testing.assert_array_equal(plan.labels, expected)
    assert (plan.boxes >= 0).all()
    assert (plan.boxes[:, 2:] <= [100, 80]).all()
    np.testing.assert_array_equal(plan.boxes, plan.boxes.round())


def test_jitter_makes_no_object_background() -> None:
    image, _ = regions()
    objects = pool_regions([(image, image.boxes[:0])], Sampling())
    chosen = np.zeros(500, np.int64)
    rng = np.random.default_rng(0)
    plan = augment_regions(
        objects, chosen, [image], RegionAugmentation(jitter=0.45), Sampling(), rng
    )
    assert (plan.labels > 0).all()
    assert len(np.unique(plan.boxes, axis=0)) > 50


def test_without_augmentation_regions_stay_as_they_are() -> None:
    image, pooled = regions()
    chosen = np.array([3, 5])
    plain = RegionAugmentation(mirror=False)
    plan = augment_regions(pooled, chosen, [image], plain, Sampling(), np.random.default_rng(0))
    np.testing.assert_array_equal(plan.boxes, pooled.boxes[chosen])
    assert not plan.mirrored.any()
    assert (plan.distortions == NEUTRAL).all()
    assert plan.select(slice(1, None, 2)).boxes.tolist() == plan.boxes[1:].tolist()

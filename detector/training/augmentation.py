"""How the crops of a batch are varied: everything about it that is drawn at random.

Letters of shapes: N crops of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.ground_truth import AnnotatedImage
from detector.training.distortion import NEUTRAL, Distortions
from detector.training.labelled_regions import IGNORED, LabelledRegions, label_boxes
from detector.training.settings import RegionAugmentation, Sampling
from proposals.types import Boxes


class CropPlan(NamedTuple):
    """Where the crops of a batch are cut, and how each of them is varied."""

    images: NDArray[np.int32]
    """`[N]`, index of each crop's image."""
    boxes: Boxes
    """`float32 [N, 4]`, whole pixels inside the image."""
    labels: NDArray[np.int64]
    """`[N]`: 0 is background, 1 + class an object."""
    mirrored: NDArray[np.bool_]
    """`[N]`, which crops are flipped from left to right."""
    distortions: Distortions
    """`float32 [N, 3]`, see `detector.training.distortion`."""

    def select(self, crops: slice) -> CropPlan:
        """Return the plan of some of the crops."""
        return CropPlan(
            images=self.images[crops],
            boxes=self.boxes[crops],
            labels=self.labels[crops],
            mirrored=self.mirrored[crops],
            distortions=self.distortions[crops],
        )


def augment_regions(
    regions: LabelledRegions,
    chosen: NDArray[np.int64],
    images: Sequence[AnnotatedImage],
    augmentation: RegionAugmentation,
    sampling: Sampling,
    rng: np.random.Generator,
) -> CropPlan:
    """Plan the crops of some regions, each varied at random.

    Args:
        regions: The regions of all images.
        chosen: `int64 [N]`, indices of the regions of the batch.
        images: The annotations of all images.
        augmentation: How regions are varied.
        sampling: How jittered regions are labelled.
        rng: Source of the random draws.
    """
    count = len(chosen)
    plan = CropPlan(
        images=regions.images[chosen],
        boxes=regions.boxes[chosen],
        labels=regions.labels[chosen].astype(np.int64),
        mirrored=rng.random(count) < (0.5 if augmentation.mirror else 0.0),
        distortions=draw_distortions(count, augmentation.distortion, rng),
    )
    if augmentation.jitter:
        _jitter(plan, images, augmentation.jitter, sampling, rng)
    return plan


def draw_distortions(count: int, strength: float, rng: np.random.Generator) -> Distortions:
    """Draw the distortions of crops, each number uniformly from its allowed range.

    Args:
        count: Number of crops.
        strength: Largest difference of the factors from 1, and of brightness from 0 as a share of
            128.
        rng: Source of the random draws.
    """
    spread = strength * np.array([1, 1, 128])
    return (NEUTRAL + rng.uniform(-1, 1, (count, 3)) * spread).astype(np.float32)


def _jitter(
    plan: CropPlan,
    images: Sequence[AnnotatedImage],
    strength: float,
    sampling: Sampling,
    rng: np.random.Generator,
) -> None:
    """Move the edges of a plan's boxes, and label the boxes again, in place.

    A box stays as it was if it would become neither object nor background, or if an object would
    become background: not all objects need be annotated.
    """
    sides = np.tile(plan.boxes[:, 2:] - plan.boxes[:, :2], 2)  # [N, 4]
    moved = plan.boxes + rng.uniform(-1, 1, (len(plan.boxes), 4)) * strength * sides
    for index, image_index in enumerate(plan.images):
        image = images[image_index]
        limits = [image.width, image.height] * 2
        box = np.round(moved[index]).clip(0, limits).astype(np.float32)
        if box[0] >= box[2] or box[1] >= box[3]:
            continue
        (label,), _ = label_boxes(box[None], image, sampling)
        if label != IGNORED and (label > 0 or plan.labels[index] == 0):
            plan.boxes[index] = box
            plan.labels[index] = label

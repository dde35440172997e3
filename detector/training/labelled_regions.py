"""The regions that a network is trained on, with R-CNN's labels.

R-CNN (arXiv 1311.2524, section 2.3): a proposal is an object of the class that it overlaps most if
their IoU is at least 0.5, otherwise background. Annotated boxes are proposals too.

Letters of shapes: R regions of all images, N regions of one image.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.ground_truth import AnnotatedImage
from detector.training.settings import Sampling
from proposals.boxes import iou, round_boxes
from proposals.types import Boxes

NEAR_IOU = 0.1
"""Least IoU of a region with an object that counts as near to it."""

IGNORED = -1
"""Label of a region that is neither an object nor background."""


class LabelledRegions(NamedTuple):
    """The regions of all images."""

    images: NDArray[np.int32]
    """`[R]`, index of each region's image."""
    boxes: Boxes
    """`float32 [R, 4]`, whole pixels inside the image."""
    labels: NDArray[np.int16]
    """`[R]`: 0 is background, 1 + class an object; or `IGNORED`."""
    near_object: NDArray[np.bool_]
    """`[R]`, whether the region overlaps an object by at least `NEAR_IOU`."""


def pool_regions(
    images: Iterable[tuple[AnnotatedImage, Boxes]], sampling: Sampling
) -> LabelledRegions:
    """Return the regions of images: proposals and annotated boxes, without repetitions.

    Args:
        images: Annotated images, each with its proposals `float32 [N, 4]`.
        sampling: The IoUs from which and below which a region is an object or background.
    """
    parts = []
    for index, (image, proposals) in enumerate(images):
        boxes = round_boxes(np.concatenate([proposals, image.boxes]), image.width, image.height)
        labels, near_object = label_boxes(boxes, image, sampling)
        indices = np.full(len(boxes), index, np.int32)
        parts.append(LabelledRegions(indices, boxes, labels, near_object))
    return LabelledRegions(*map(np.concatenate, zip(*parts, strict=True)))


def label_boxes(
    boxes: Boxes, image: AnnotatedImage, sampling: Sampling
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Label boxes by the objects that they overlap.

    Difficult objects count like others, as in R-CNN.

    Args:
        boxes: `float32 [N, 4]`.
        image: The objects.
        sampling: The IoUs from which and below which a region is an object or background.

    Returns:
        Labels `int16 [N]`, and which boxes are near an object, `bool [N]`.
    """
    if len(image.boxes) == 0:
        return np.zeros(len(boxes), np.int16), np.zeros(len(boxes), np.bool_)

    overlaps = iou(boxes, image.boxes)  # [N, objects]
    best = overlaps.max(axis=1)  # [N]
    labels = np.full(len(boxes), IGNORED, np.int16)
    labels[best < sampling.background_iou] = 0
    is_object = best >= sampling.foreground_iou
    labels[is_object] = 1 + image.labels[overlaps.argmax(axis=1)[is_object]]
    return labels, best >= NEAR_IOU

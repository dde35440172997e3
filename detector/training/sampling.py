"""Which regions a network is trained on: R-CNN's labels and batches.

R-CNN (arXiv 1311.2524, section 2.3): a proposal is an object of the class that it overlaps most if
their IoU is at least 0.5, otherwise background; annotated boxes are proposals too. A batch has 32
objects and 96 of the background, each drawn uniformly, with replacement, from all photos.

Letters of shapes: R regions of all photos, N those of one photo or batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import TrainingError
from detector.training.settings import Sampling
from proposals.boxes import iou, round_boxes
from proposals.types import Boxes

NEAR = 0.1
"""The least IoU with an object of background that counts as near."""

IGNORED = -1


class Regions(NamedTuple):
    """The regions of all photos."""

    photos: NDArray[np.int32]
    """`[R]`, the index of each one's photo."""
    boxes: Boxes
    """`[R, 4]`, whole pixels inside the photo."""
    labels: NDArray[np.int16]
    """`[R]`: 0 background, 1 + class, or `IGNORED`."""
    near: NDArray[np.bool_]
    """`[R]`: does it overlap an object?"""


def label(
    boxes: Boxes, image: AnnotatedImage, sampling: Sampling
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """The labels `int16 [N]` of boxes `[N, 4]`, and which are near an object, `bool [N]`.

    Difficult objects are objects like others, as R-CNN has it.
    """
    if len(image.boxes) == 0:
        return np.zeros(len(boxes), np.int16), np.zeros(len(boxes), np.bool_)
    overlaps = iou(boxes, image.boxes)  # [N, objects]
    best = overlaps.max(axis=1)
    labels = np.full(len(boxes), IGNORED, np.int16)
    labels[best < sampling.background_iou] = 0
    objects = best >= sampling.foreground_iou
    labels[objects] = 1 + image.labels[overlaps.argmax(axis=1)[objects]]
    return labels, best >= NEAR


def pool(photos: Iterable[tuple[AnnotatedImage, Boxes]], sampling: Sampling) -> Regions:
    """The regions of photos: their proposals `[N, 4]` and annotated boxes, without repetitions."""
    parts = []
    for index, (image, proposals) in enumerate(photos):
        boxes = round_boxes(np.concatenate([proposals, image.boxes]), image.width, image.height)
        labels, near = label(boxes, image, sampling)
        parts.append(Regions(np.full(len(boxes), index, np.int32), boxes, labels, near))
    return Regions(*map(np.concatenate, zip(*parts, strict=True)))


def few_objects(
    images: Sequence[AnnotatedImage], count: int, rng: np.random.Generator
) -> list[AnnotatedImage]:
    """Of each class so many objects at most, drawn at random, and their images without others."""
    labels = np.concatenate([np.zeros(0, np.int64), *(image.labels for image in images)])
    kept = np.zeros(len(labels), np.bool_)
    for number in np.unique(labels):
        kept[rng.permutation(np.flatnonzero(labels == number))[:count]] = True
    ends = np.cumsum([0, *(len(image.labels) for image in images)])
    found = []
    for image, start, end in zip(images, ends, ends[1:], strict=False):
        mine = kept[start:end]
        if mine.any():
            boxes, some = image.boxes[mine], image.labels[mine]
            found.append(replace(image, boxes=boxes, labels=some, difficult=image.difficult[mine]))
    return found


class Sampler:
    """Draws batches of regions, with replacement.

    Raises:
        TrainingError: there is no object, or no background, or a class has no region.
    """

    def __init__(self, regions: Regions, sampling: Sampling, classes: Sequence[str]) -> None:
        self._sampling = sampling
        self._foreground = np.flatnonzero(regions.labels > 0)
        background = regions.labels == 0
        self._background = np.flatnonzero(background)
        self._near = np.flatnonzero(background & regions.near)
        self._by_class = [
            np.flatnonzero(regions.labels == number) for number, _ in enumerate(classes, start=1)
        ]
        for name, indices in zip(classes, self._by_class, strict=True):
            if len(indices) == 0:
                raise TrainingError(f"class {name!r} has no box in the photos to train on")
        if len(self._background) == 0:
            raise TrainingError("no proposal is background: there is nothing to tell objects from")
        if len(self._near) == 0:
            self._near = self._background

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which as many objects are drawn as there are foreground regions."""
        return max(1, len(self._foreground) // self._sampling.foreground)

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The indices of the regions of a batch, `int64 [foreground + background]`."""
        sampling = self._sampling
        balanced = round(sampling.balanced * sampling.foreground)
        near = round(sampling.near * sampling.background)
        classes = rng.integers(len(self._by_class), size=balanced)
        return np.concatenate(
            [
                np.array([rng.choice(self._by_class[c]) for c in classes], np.int64),
                rng.choice(self._foreground, sampling.foreground - balanced),
                rng.choice(self._near, near),
                rng.choice(self._background, sampling.background - near),
            ]
        )

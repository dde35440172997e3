"""The common part of all rules: detections as columns, their order, and pairs that may match.

Letters of shapes: D detections, G objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.ground_truth import GroundTruth
from detector.evaluation.score import Ranking

PAIRS_AT_ONCE = 1_000_000
"""Number of pairs of a detection and an object whose overlaps are computed together. It limits
the memory."""

Indices = NDArray[np.int64]


class Found(NamedTuple):
    """The detections of a data set, as columns."""

    images: Indices
    """`[D]`, positions of the images in the ground truth."""
    labels: Indices
    """`[D]`, indices of classes."""
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]
    """`[D, 4]`, x1, y1, x2, y2 in pixels."""

    def take(self, order: NDArray[np.intp]) -> Found:
        """Return the detections of these indices."""
        return Found(self.images[order], self.labels[order], self.scores[order], self.boxes[order])

    def by_image(self) -> Found:
        """Return them by image and descending score; equal scores keep their order."""
        return self.take(np.lexsort((-self.scores, self.images)))


class Objects(NamedTuple):
    """The objects of a ground truth, sorted by image and class, then in the annotations' order."""

    keys: Indices
    """`[G]`, position of the image x number of classes + label."""
    boxes: NDArray[np.float64]
    """`[G, 4]`."""
    difficult: NDArray[np.bool_]

    @classmethod
    def of(cls, truth: GroundTruth) -> Objects:
        """Return all objects of a ground truth."""
        count = len(truth.classes)
        images = truth.images
        keys = np.concatenate(
            [np.zeros(0, np.int64), *(n * count + image.labels for n, image in enumerate(images))]
        )
        boxes = np.concatenate([np.zeros((0, 4)), *(image.boxes for image in images)])
        difficult = np.concatenate([np.zeros(0, np.bool_), *(image.difficult for image in images)])
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], boxes[order].astype(np.float64), difficult[order])


class Pairs(NamedTuple):
    """Pairs of a detection and an object with their overlaps, sorted by detection."""

    detections: Indices
    objects: Indices
    overlaps: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> Pairs:
        """Return the chosen pairs."""
        return Pairs(self.detections[chosen], self.objects[chosen], self.overlaps[chosen])

    def best_first(self) -> Pairs:
        """Return the largest overlaps of each detection first, equal ones by object."""
        order = np.lexsort((self.objects, -self.overlaps, self.detections))
        return Pairs(self.detections[order], self.objects[order], self.overlaps[order])


def best_objects(block: Pairs) -> Pairs:
    """Return, for each detection that has a pair, the one with the largest overlap."""
    ordered = block.best_first()
    _, first = np.unique(ordered.detections, return_index=True)
    return Pairs(ordered.detections[first], ordered.objects[first], ordered.overlaps[first])


def take_free(block: Pairs, target: Indices, taken: bytearray) -> None:
    """Match each detection, in order, with the free object that it overlaps most.

    Args:
        block: The allowed pairs.
        target: `[D]`, the object of each detection, or -1. It is filled in.
        taken: `[G]`, whether each object is matched. It is filled in.
    """
    ordered = block.best_first()
    for detection, item in zip(ordered.detections.tolist(), ordered.objects.tolist(), strict=True):
        if target[detection] < 0 and not taken[item]:
            target[detection] = item
            taken[item] = True


def pairs(keys: Indices, object_keys: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Yield all pairs of a detection and an object with equal keys, as indices, by detection.

    The pairs come in blocks. All pairs of a detection are in the same block.

    Args:
        keys: `[D]`.
        object_keys: `[G]`, ascending.
    """
    first = np.searchsorted(object_keys, keys, "left")
    counts = np.searchsorted(object_keys, keys, "right") - first  # [D]
    ends = np.cumsum(counts)
    start = 0
    while start < len(keys):
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, "right")))
        part = slice(start, end)
        detections = np.repeat(np.arange(start, end), counts[part])
        skipped = np.repeat(ends[part] - counts[part] - before, counts[part])
        objects = np.repeat(first[part], counts[part]) + np.arange(len(detections)) - skipped
        yield detections, objects
        start = end


def overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU `[N]` of pairs of boxes `[N, 4]`; 0 where they share no area."""
    both = intersections(a, b)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(axis=1) for box in (a, b))
    union = area_a + area_b - both
    return np.asarray(np.divide(both, union, out=np.zeros_like(both), where=both > 0))


def intersections(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area in square pixels that pairs of boxes `[N, 4]` share."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    return np.asarray(sides.clip(0).prod(axis=1))


def rankings(
    found: Found,
    right: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    objects: Indices,
    classes: int,
) -> tuple[Ranking, ...]:
    """Return the ranking of each class.

    Args:
        found: The detections, by image and descending score.
        right: `bool [D]`, which are true positives.
        ignored: `bool [D]`, which do not count.
        objects: Keys of the objects to find.
        classes: Number of classes.
    """
    if not classes:
        return ()

    detections = np.bincount(found.labels, minlength=classes)
    pooled = np.argsort(-found.scores, kind="stable")  # equal scores by image, then in their order
    pooled = pooled[~ignored[pooled]]
    labels = found.labels[pooled]
    by_class = pooled[np.argsort(labels, kind="stable")]
    bounds = np.cumsum(np.bincount(labels, minlength=classes))[:-1]
    return tuple(
        Ranking(
            right[mine],
            found.images[mine],
            found.scores[mine],
            objects[objects % classes == label] // classes,
            int(detections[label]),
        )
        for label, mine in enumerate(np.split(by_class, bounds))
    )


def columns(rows: Sequence[tuple[float, ...]]) -> Found:
    """Turn rows of image, label, score and box into columns."""
    table = np.array(rows, np.float64).reshape(-1, 7)
    images, labels = table[:, :2].astype(np.int64).T
    return Found(images, labels, table[:, 2], table[:, 3:])

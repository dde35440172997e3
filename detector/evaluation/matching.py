"""What all rules do before they differ: columns, order, and pairs that may match.

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
"""Of a detection and an object, whose overlaps are computed together: the bound of the memory."""

Indices = NDArray[np.int64]


class Found(NamedTuple):
    """The detections of a data set, as columns."""

    images: Indices
    """`[D]`, positions in the ground truth."""
    labels: Indices
    """`[D]`, indices of classes."""
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]
    """`[D, 4]`, x1, y1, x2, y2 in pixels."""

    def take(self, order: NDArray[np.intp]) -> Found:
        """The detections of these indices."""
        return Found(self.images[order], self.labels[order], self.scores[order], self.boxes[order])

    def by_image(self) -> Found:
        """By image and falling score, as rules go through them; equal ones stay in order."""
        return self.take(np.lexsort((-self.scores, self.images)))


class Objects(NamedTuple):
    """The objects of a ground truth by image and class, otherwise in the order of annotation."""

    keys: Indices
    """`[G]`: image x classes + label."""
    boxes: NDArray[np.float64]
    """`[G, 4]`."""
    difficult: NDArray[np.bool_]

    @classmethod
    def of(cls, truth: GroundTruth) -> Objects:
        """All objects of a ground truth."""
        count, images = len(truth.classes), truth.images
        keys = np.concatenate(
            [np.zeros(0, np.int64), *(n * count + image.labels for n, image in enumerate(images))]
        )
        boxes = np.concatenate([np.zeros((0, 4)), *(image.boxes for image in images)])
        difficult = np.concatenate([np.zeros(0, np.bool_), *(image.difficult for image in images)])
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], boxes[order].astype(np.float64), difficult[order])


class Pairs(NamedTuple):
    """Pairs of a detection and an object, by detection, with their overlaps."""

    detections: Indices
    objects: Indices
    overlaps: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_]) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.detections[chosen], self.objects[chosen], self.overlaps[chosen])

    def best_first(self) -> Pairs:
        """Each detection's largest overlaps first, equal ones in the order of the objects."""
        order = np.lexsort((self.objects, -self.overlaps, self.detections))
        return Pairs(self.detections[order], self.objects[order], self.overlaps[order])


def best_objects(block: Pairs) -> Pairs:
    """The pair with the largest overlap of each detection that has any."""
    ordered = block.best_first()
    _, first = np.unique(ordered.detections, return_index=True)
    return Pairs(ordered.detections[first], ordered.objects[first], ordered.overlaps[first])


def take_free(block: Pairs, target: Indices, taken: bytearray) -> None:
    """Let each detection in turn take the object that it overlaps most among those still free.

    Args:
        target: `[D]`, the object of each detection, or -1: filled in.
        taken: `[G]`, filled in.
    """
    ordered = block.best_first()
    for detection, item in zip(ordered.detections.tolist(), ordered.objects.tolist(), strict=True):
        if target[detection] < 0 and not taken[item]:
            target[detection], taken[item] = item, True


def pairs(keys: Indices, object_keys: Indices) -> Iterator[tuple[Indices, Indices]]:
    """All pairs of a detection and an object with equal keys, as indices, by detection.

    They come in blocks; those of a detection are in one.

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
    """The IoU `[N]` of pairs of boxes `[N, 4]`; 0 where they share no area."""
    both = intersections(a, b)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(axis=1) for box in (a, b))
    union = area_a + area_b - both
    return np.asarray(np.divide(both, union, out=np.zeros_like(both), where=both > 0))


def intersections(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The area in square pixels that pairs of boxes `[N, 4]` share."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    return np.asarray(sides.clip(0).prod(axis=1))


def rankings(
    found: Found,
    right: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    objects: Indices,
    classes: int,
) -> tuple[Ranking, ...]:
    """A ranking for each class.

    Args:
        found: by image and falling score.
        right: `bool [D]`.
        ignored: `bool [D]`, which do not count.
        objects: the keys of the objects to find.
    """
    if not classes:
        return ()
    detections = np.bincount(found.labels, minlength=classes)
    pooled = np.argsort(-found.scores, kind="stable")  # equal ones by image, then as there
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
    """Rows of image, label, score and box as columns."""
    table = np.array(rows, np.float64).reshape(-1, 7)
    images, labels = table[:, :2].astype(np.int64).T
    return Found(images, labels, table[:, 2], table[:, 3:])

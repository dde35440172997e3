"""The kinds of mistakes that detections make and what each costs, as TIDE counts them.

Bolya, Foley, Hays and Hoffman, *TIDE: A General Toolbox for Identifying Object Detection Errors*
(2020). A detection matches the free object of its class that it overlaps most, if the IoU is at
least 0.5. Every other detection is a mistake of the first of these kinds that fits: localisation
(an object of its class, at IoU 0.1 to 0.5), classification (an object of another class, at IoU 0.5
or more), duplicate (an object of its class that is already matched), background (no object at more
than IoU 0.1), or both (anything else). An object is missed if no detection matches it, and no
mistake of localisation or classification is about it.

The cost of a kind is the gain in mean average precision when it is corrected: the best mistake of
localisation or classification about an object becomes a match, and all others of the kind are
removed.

Letters of shapes: D detections, G objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.datasets.ground_truth import GroundTruth
from detector.evaluation.average_precision import AveragePrecision
from detector.evaluation.matching import (
    Found,
    Objects,
    Pairs,
    best_objects,
    intersections,
    overlaps,
    pairs,
    take_free,
)

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1

KINDS = ("localisation", "classification", "duplicate", "background", "both", "missed")
LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND, BOTH, MISSED = range(len(KINDS))
RIGHT, IGNORED = -1, -2


@dataclass(frozen=True, eq=False)
class Mistakes:
    """The mistakes in a set of detections.

    Args:
        mean_ap: Mean average precision as it is.
        costs: Cost of each kind, in mean average precision.
        counts: Number of mistakes of each kind.
        kinds: `[D]`, index of each detection's kind, or `RIGHT` or `IGNORED`.
        about: `[D]`, the object that a mistake of localisation or classification is about, or -1.
        missed: `bool [G]`, which objects are missed.
        objects: The objects to which `about` and `missed` refer.
    """

    mean_ap: float
    costs: Mapping[str, float]
    counts: Mapping[str, int]
    kinds: NDArray[np.int64]
    about: NDArray[np.int64]
    missed: NDArray[np.bool_]
    objects: Objects


def find(truth: GroundTruth, found: Found, ap: AveragePrecision) -> Mistakes:
    """Find the mistakes of detections.

    Difficult objects are ignored, and so are unmatched detections more than half covered by one of
    the same class.

    Args:
        truth: The ground truth.
        found: Detections with boxes in the coordinates of the ground truth.
        ap: The average precision that costs are measured in.
    """
    objects = Objects.of(truth)
    order = np.lexsort((-found.scores, found.images))
    scene = _Scene(found.take(order), objects, len(truth.classes))
    target, inside = scene.match()
    used = np.zeros(len(objects.keys), np.bool_)
    used[target[target >= 0]] = True
    kinds, about = scene.classify(target, inside, used)

    mendable = np.flatnonzero(about >= 0)
    mendable = mendable[~used[about[mendable]]]
    _, best = np.unique(about[mendable], return_index=True)
    mended = mendable[best]  # the best-scored mistake about each object
    missed = ~used & ~objects.difficult
    missed[about[mended]] = False

    base, costs = scene.costs(kinds, about, mended, missed, ap)
    back = np.argsort(order)
    return Mistakes(
        base,
        costs,
        {name: int((kinds == kind).sum()) for kind, name in enumerate(KINDS)}
        | {"missed": int(missed.sum())},
        kinds[back],
        about[back],
        missed,
        objects,
    )


class _Scene:
    """Detections, by image and descending score, and the objects of the images."""

    def __init__(self, found: Found, objects: Objects, classes: int) -> None:
        self._found = found
        self._objects = objects
        self._classes = classes
        self._labels = objects.keys % classes  # [G]
        self._images = objects.keys // classes  # [G]

    def _pairs(self) -> Iterator[tuple[Pairs, NDArray[np.bool_]]]:
        """Yield blocks of pairs in the same image, and whether they are of the same class."""
        for detections, others in pairs(self._found.images, self._images):
            shared = overlaps(self._found.boxes[detections], self._objects.boxes[others])
            same = self._found.labels[detections] == self._labels[others]
            yield Pairs(detections, others, shared), same

    def match(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Match detections with objects.

        Returns:
            `[D]`, the object of each detection, or -1; and `bool [D]`, which detections are more
            than half covered by a difficult object of their class.
        """
        target = np.full(len(self._found.scores), -1)
        inside = np.zeros(len(target), np.bool_)
        taken = bytearray(len(self._objects.keys))
        for block, same in self._pairs():
            difficult = self._objects.difficult[block.objects]
            fits = block.overlaps >= FOREGROUND_IOU
            take_free(block.where(same & ~difficult & fits), target, taken)
            covered = _covered(
                self._found.boxes[block.detections], self._objects.boxes[block.objects]
            )
            inside[block.detections[same & difficult & (covered > 0.5)]] = True
        return target, inside

    def classify(
        self, target: NDArray[np.int64], ignored: NDArray[np.bool_], used: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each detection's kind, and the object that it is about or -1, `[D]` each."""
        count = len(target)
        same_class, other_class, found_class, any_class = (_Nearest(count) for _ in range(4))
        for block, same in self._pairs():
            counted = ~self._objects.difficult[block.objects]
            same_class.add(block.where(same & counted))
            other_class.add(block.where(~same & counted))
            found_class.add(block.where(same & used[block.objects]))
            any_class.add(block.where(counted))

        # The last assignment counts: kinds that come first in the definition are set last.
        own = same_class.overlap
        kinds = np.full(count, BOTH)
        kinds[any_class.overlap <= BACKGROUND_IOU] = BACKGROUND
        kinds[found_class.overlap >= FOREGROUND_IOU] = DUPLICATE
        kinds[other_class.overlap >= FOREGROUND_IOU] = CLASSIFICATION
        kinds[(own >= BACKGROUND_IOU) & (own <= FOREGROUND_IOU)] = LOCALISATION
        kinds[ignored] = IGNORED
        kinds[target >= 0] = RIGHT

        about = np.where(kinds == LOCALISATION, same_class.object, -1)
        about = np.where(kinds == CLASSIFICATION, other_class.object, about)
        return kinds, about

    def costs(
        self,
        kinds: NDArray[np.int64],
        about: NDArray[np.int64],
        mended: NDArray[np.int64],
        missed: NDArray[np.bool_],
        ap: AveragePrecision,
    ) -> tuple[float, dict[str, float]]:
        """Return the mean average precision as it is, and the cost of each kind."""
        labels = self._found.labels
        positives = self._count(~self._objects.difficult)
        base = self._mean_ap(labels, kinds == RIGHT, kinds != IGNORED, positives, positives, ap)
        costs = {}
        for kind, name in enumerate(KINDS):
            corrected_labels = labels.copy()
            right = kinds == RIGHT
            counts = (kinds != IGNORED) & (kinds != kind)
            corrected = mended[kinds[mended] == kind]
            right[corrected] = True
            counts[corrected] = True
            corrected_labels[corrected] = self._labels[about[corrected]]
            left = positives - self._count(missed) if kind == MISSED else positives
            better = self._mean_ap(corrected_labels, right, counts, left, positives, ap)
            costs[name] = max(0.0, better - base)
        return base, costs

    def _count(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the number of the chosen objects of each class."""
        return np.bincount(self._labels[chosen], minlength=self._classes)

    def _mean_ap(
        self,
        labels: NDArray[np.int64],
        right: NDArray[np.bool_],
        counts: NDArray[np.bool_],
        left: NDArray[np.int64],
        positives: NDArray[np.int64],
        ap: AveragePrecision,
    ) -> float:
        """Return the mean over classes that have objects.

        A class with no object left to find has AP 0, or does not count if it has no detection.
        """
        order = np.argsort(-self._found.scores, kind="stable")
        order = order[counts[order]]
        values = []
        for label in np.flatnonzero(positives):
            flags = right[order[labels[order] == label]]
            if left[label]:
                values.append(ap(flags, int(left[label]), None))
            elif len(flags):
                values.append(0.0)
        return float(np.mean(values)) if values else 0.0


class _Nearest:
    """The object that each of `D` detections overlaps most, and the overlap."""

    def __init__(self, detections: int) -> None:
        self.overlap = np.zeros(detections)
        self.object = np.full(detections, -1)

    def add(self, block: Pairs) -> None:
        """Take in a block, which has all pairs of its detections."""
        detections, objects, shared = best_objects(block)
        self.overlap[detections] = shared
        self.object[detections] = objects


def _covered(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each box `a` `[N, 4]` that lies in its partner `b` `[N, 4]`."""
    both = intersections(a, b)
    areas = (a[:, 2:] - a[:, :2]).prod(axis=1)
    return np.asarray(np.divide(both, areas, out=np.zeros_like(both), where=both > 0))

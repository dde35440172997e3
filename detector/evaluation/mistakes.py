"""What kinds of mistakes detections make, and what each costs, as TIDE counts them.

Bolya, Foley, Hays and Hoffman, *TIDE: A General Toolbox for Identifying Object Detection Errors*
(2020). A detection takes the free object of its class that it overlaps most, from an IoU of 0.5
on. Every other one is a mistake of the first of these kinds that fits: localisation (an object of
its class, with an IoU of 0.1 to 0.5), classification (an object of another class, from 0.5 on),
duplicate (an object of its class that is found already), background (no object, up to 0.1), or
both (anything else). Objects that neither a detection has found nor a mistake of localisation or
classification would, are missed.

A kind costs what mean average precision gains if it is mended: the best mistake of localisation or
classification about an object finds it, all others of the kind are gone.

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

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1

KINDS = ("localisation", "classification", "duplicate", "background", "both", "missed")
LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND, BOTH, MISSED = range(len(KINDS))
RIGHT, IGNORED = -1, -2


@dataclass(frozen=True, eq=False)
class Mistakes:
    """The mistakes in a set of detections.

    Args:
        mean_ap: before anything is mended.
        costs: by kind, in mean average precision.
        counts: by kind.
        kinds: `[D]`, the index of each detection's kind, or `RIGHT` or `IGNORED`.
        about: `[D]`, the object that a mistake of localisation or classification is about, or -1.
        missed: `bool [G]`.
        objects: to which the last two refer.
    """

    mean_ap: float
    costs: Mapping[str, float]
    counts: Mapping[str, int]
    kinds: NDArray[np.int64]
    about: NDArray[np.int64]
    missed: NDArray[np.bool_]
    objects: Objects


def find(truth: GroundTruth, found: Found, ap: AveragePrecision) -> Mistakes:
    """The mistakes of detections with boxes in the ground truth's coordinates.

    Difficult objects are none; a mistake of which more than half lies in one of its class is left
    out.

    Args:
        ap: the average precision by which costs are counted.
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
    mended = mendable[np.unique(about[mendable], return_index=True)[1]]  # the best-scored ones
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
    """Detections by image and falling score, and the objects of the images."""

    def __init__(self, found: Found, objects: Objects, classes: int) -> None:
        self._found = found
        self._objects = objects
        self._classes = classes
        self._labels = objects.keys % classes  # [G]
        self._images = objects.keys // classes  # [G]

    def _pairs(self) -> Iterator[tuple[Pairs, NDArray[np.bool_]]]:
        """Blocks of pairs in the same image, and whether they are of the same class."""
        for detections, others in pairs(self._found.images, self._images):
            shared = overlaps(self._found.boxes[detections], self._objects.boxes[others])
            same = self._found.labels[detections] == self._labels[others]
            yield Pairs(detections, others, shared), same

    def match(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The object that each detection finds, or -1, and which lie in a difficult one: `[D]`."""
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
        """Each detection's kind and the object that it is about, or -1: `[D]`."""
        count = len(target)
        same_class, other_class, found_class, any_class = (_Nearest(count) for _ in range(4))
        for block, same in self._pairs():
            counted = ~self._objects.difficult[block.objects]
            same_class.add(block.where(same & counted))
            other_class.add(block.where(~same & counted))
            found_class.add(block.where(same & used[block.objects]))
            any_class.add(block.where(counted))
        own = same_class.overlap
        kinds = np.full(count, BOTH)  # from here on the earlier kinds overwrite the later ones
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
        """Mean average precision as it is, and what each kind costs."""
        labels = self._found.labels
        positives = self._count(~self._objects.difficult)
        base = self._mean_ap(labels, kinds == RIGHT, kinds != IGNORED, positives, positives, ap)
        costs = {}
        for kind, name in enumerate(KINDS):
            own_labels, right = labels.copy(), kinds == RIGHT
            counts = (kinds != IGNORED) & (kinds != kind)
            mine = mended[kinds[mended] == kind]
            right[mine] = counts[mine] = True
            own_labels[mine] = self._labels[about[mine]]
            left = positives - self._count(missed) if kind == MISSED else positives
            better = self._mean_ap(own_labels, right, counts, left, positives, ap)
            costs[name] = max(0.0, better - base)
        return base, costs

    def _count(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of some objects are of each class."""
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
        """The mean over classes that have objects. One without any left to find has 0, or, if it
        has no detection either, no part in the mean.
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
    """The object that each of `D` detections overlaps most, and by how much."""

    def __init__(self, detections: int) -> None:
        self.overlap = np.zeros(detections)
        self.object = np.full(detections, -1)

    def add(self, block: Pairs) -> None:
        """Look at the pairs of some detections, of which no other block has any."""
        detections, objects, shared = best_objects(block)
        self.overlap[detections], self.object[detections] = shared, objects


def _covered(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which share of each box `[N, 4]` lies in its partner `[N, 4]`."""
    both = intersections(a, b)
    areas = (a[:, 2:] - a[:, :2]).prod(axis=1)
    return np.asarray(np.divide(both, areas, out=np.zeros_like(both), where=both > 0))

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
    count = len(truth.classes)
    objects = Objects.of(truth)
    labels, images = objects.keys % count, objects.keys // count
    order = np.lexsort((-found.scores, found.images))
    ordered = found.take(order)

    def blocks() -> Iterator[tuple[Pairs, NDArray[np.bool_]]]:
        for detections, others in pairs(ordered.images, images):
            shared = overlaps(ordered.boxes[detections], objects.boxes[others])
            same = ordered.labels[detections] == labels[others]
            yield Pairs(detections, others, shared), same

    target = np.full(len(order), -1)
    taken = bytearray(len(objects.keys))
    inside = np.zeros(len(order), np.bool_)  # a difficult object of its class
    for block, same in blocks():
        difficult = objects.difficult[block.objects]
        fits = block.overlaps >= FOREGROUND_IOU
        take_free(block.where(same & ~difficult & fits), target, taken)
        covered = _covered(ordered.boxes[block.detections], objects.boxes[block.objects])
        inside[block.detections[same & difficult & (covered > 0.5)]] = True
    used = np.frombuffer(taken, np.uint8).astype(np.bool_)

    nearest = {name: _Nearest(len(order)) for name in ("same", "other", "used", "any")}
    for block, same in blocks():
        counted = ~objects.difficult[block.objects]
        nearest["same"].add(block.where(same & counted))
        nearest["other"].add(block.where(~same & counted))
        nearest["used"].add(block.where(same & used[block.objects]))
        nearest["any"].add(block.where(counted))

    kinds = np.full(len(order), BOTH)
    kinds[nearest["any"].overlap <= BACKGROUND_IOU] = BACKGROUND
    kinds[nearest["used"].overlap >= FOREGROUND_IOU] = DUPLICATE
    kinds[nearest["other"].overlap >= FOREGROUND_IOU] = CLASSIFICATION
    own = nearest["same"].overlap
    kinds[(own >= BACKGROUND_IOU) & (own <= FOREGROUND_IOU)] = LOCALISATION
    kinds[inside] = IGNORED
    kinds[target >= 0] = RIGHT
    about = np.full(len(order), -1)
    for kind, name in ((LOCALISATION, "same"), (CLASSIFICATION, "other")):
        about[kinds == kind] = nearest[name].object[kinds == kind]

    mendable = np.flatnonzero((about >= 0) & ~used[about])
    mended = mendable[np.unique(about[mendable], return_index=True)[1]]  # the best-scored ones
    missed = ~used & ~objects.difficult
    missed[about[mended]] = False
    positives = np.bincount(labels[~objects.difficult], minlength=count)
    base = _mean_ap(ordered.labels, ordered.scores, kinds == RIGHT, kinds != IGNORED, positives, ap)
    costs = {}
    for kind, name in enumerate(KINDS):
        left, right = positives, kinds == RIGHT
        counts = (kinds != IGNORED) & (kinds != kind)
        own_labels = ordered.labels.copy()
        if kind in (LOCALISATION, CLASSIFICATION):
            mine = mended[kinds[mended] == kind]
            right[mine] = counts[mine] = True
            own_labels[mine] = labels[about[mine]]
        if kind == MISSED:
            left = positives - np.bincount(labels[missed], minlength=count)
        better = _mean_ap(own_labels, ordered.scores, right, counts, left, ap, positives)
        costs[name] = max(0.0, better - base)
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


class _Nearest:
    """The object that each of `D` detections overlaps most, and by how much."""

    def __init__(self, detections: int) -> None:
        self.overlap = np.zeros(detections)
        self.object = np.full(detections, -1)

    def add(self, block: Pairs) -> None:
        """Look at the pairs of some detections, of which no other block has any."""
        detections, objects, shared = best_objects(block)
        self.overlap[detections], self.object[detections] = shared, objects


def _mean_ap(
    labels: NDArray[np.int64],
    scores: NDArray[np.float64],
    right: NDArray[np.bool_],
    counts: NDArray[np.bool_],
    positives: NDArray[np.int64],
    ap: AveragePrecision,
    of_classes: NDArray[np.int64] | None = None,
) -> float:
    """Mean average precision over the classes that had objects; one without any left has 0."""
    order = np.argsort(-scores, kind="stable")
    order = order[counts[order]]
    values = [
        ap(right[order[labels[order] == label]], int(positives[label]), None)
        if positives[label]
        else 0.0
        for label in np.flatnonzero(positives if of_classes is None else of_classes)
    ]
    return float(np.mean(values)) if values else 0.0


def _covered(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which share of each box `[N, 4]` lies in its partner `[N, 4]`."""
    return np.asarray(intersections(a, b) / (a[:, 2:] - a[:, :2]).prod(axis=1))

"""PASCAL VOC's rule (`VOCevaldet.m`), with the average precision of 2007 or of 2010 and later."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detector.datasets.ground_truth import GroundTruth
from detector.evaluation.average_precision import area, eleven_points
from detector.evaluation.matching import (
    Found,
    Objects,
    Pairs,
    best_objects,
    overlaps,
    pairs,
    rankings,
)
from detector.evaluation.score import ClassScore, Ranking, Score, mean

Year = Literal[2007, 2010]
"""The rule of 2010 is also that of later years."""

MINIMUM_IOU = 0.5
MATCHING = (
    "a detection is right if its IoU with the object that it overlaps most is at least 0.5 and no "
    "better-scored one has found that object; difficult objects are neither right nor wrong; "
    "mean_ap is the exact area under the precision envelope"
)
RULES = {
    2007: f"PASCAL VOC 2007: {MATCHING}, mean_ap_11point VOC 2007's own mean over the eleven "
    "recalls 0:0.1:1, of which the official code's floating-point numbers for 0.3, 0.6 and 0.7 are "
    "a little larger, so that recalls of exactly 3/10, 6/10 and 7/10 do not reach them",
    2010: f"PASCAL VOC 2010 and later: {MATCHING}",
}


def evaluate(
    truth: GroundTruth, found: Found, *, year: Year = 2007
) -> tuple[Score, tuple[Ranking, ...]]:
    """Return the score of detections, and the rankings that it comes from.

    Equal scores rank by image, then in the order of the detections.
    """
    ranked = _rank(truth, found)
    in_2007 = year == 2007
    classes = tuple(
        ClassScore(
            number,
            name,
            ranking.ap(area),
            len(ranking.objects),
            ranking.detections,
            {"ap_11point": ranking.ap(eleven_points)} if in_2007 else {},
        )
        for (name, number), ranking in zip(truth.classes.items(), ranked, strict=True)
    )
    by_points = mean([item.figures.get("ap_11point") for item in classes])
    figures = {"mean_ap_11point": by_points} if in_2007 else {}
    return Score(RULES[year], len(truth.images), classes, figures), ranked


def _rank(truth: GroundTruth, found: Found) -> tuple[Ranking, ...]:
    count = len(truth.classes)
    objects = Objects.of(truth)
    ordered = found.by_image()
    right, ignored = _match(ordered, objects, count)
    return rankings(ordered, right, ignored, objects.keys[~objects.difficult], count)


def _match(
    found: Found, objects: Objects, classes: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which detections `[D]` are true positives, and which do not count.

    Args:
        found: The detections, by image and descending score.
        objects: The objects.
        classes: Number of classes.
    """
    keys = found.images * classes + found.labels
    target = np.full(
        len(keys), -1
    )  # [D], the object that each overlaps most, from the minimum IoU on
    for detections, others in pairs(keys, objects.keys):
        shared = overlaps(found.boxes[detections], objects.boxes[others])
        best = best_objects(Pairs(detections, others, shared))
        best = best.where(best.overlaps >= MINIMUM_IOU)
        target[best.detections] = best.objects

    matched = np.flatnonzero(target >= 0)
    ignored = np.zeros(len(keys), np.bool_)
    ignored[matched] = objects.difficult[target[matched]]

    # Only the best-scored detection of an object is right.
    right = np.zeros(len(keys), np.bool_)
    _, first = np.unique(target[matched], return_index=True)
    right[matched[first]] = True
    return right & ~ignored, ignored

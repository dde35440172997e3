"""The curves of a report: precision, recall and calibration.

Letters of shapes: D detections, G objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.datasets.ground_truth import GroundTruth
from detector.evaluation.average_precision import precision_recall
from detector.evaluation.matching import Found, Objects, overlaps, pairs
from detector.evaluation.score import Ranking

POINTS = 200
"""That a curve has at most."""

IOUS = tuple(n / 100 for n in range(50, 100, 5))
BINS = 10

Curve = list[tuple[float, float]]
"""Points of x and y, by x."""


@dataclass(frozen=True)
class Threshold:
    """The score from which on a class's detections have the best F1, and what they are then."""

    score: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Bin:
    """The detections with scores in a tenth of 0 to 1."""

    low: float
    high: float
    detections: int
    mean_score: float | None
    right: float | None
    """Which share of them."""


def precision_by_recall(ranking: Ranking) -> Curve:
    """Precision at the recalls that right detections reach; empty without objects."""
    if not len(ranking.objects):
        return []
    precision, recall = precision_recall(ranking.right, len(ranking.objects))
    steps = _some(np.flatnonzero(ranking.right))
    return list(zip(recall[steps].tolist(), precision[steps].tolist(), strict=True))


def best_threshold(ranking: Ranking) -> Threshold | None:
    """The threshold of the best F1; None where nothing is right."""
    if not ranking.right.any():
        return None
    precision, recall = precision_recall(ranking.right, len(ranking.objects))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    f1[:-1][ranking.scores[:-1] == ranking.scores[1:]] = 0.0  # a threshold parts no equal scores
    best = int(f1.argmax())
    return Threshold(
        float(ranking.scores[best]), float(precision[best]), float(recall[best]), float(f1[best])
    )


def recall_by_number(rankings: Sequence[Ranking], images: int) -> Curve:
    """Recall of all objects against the mean number of detections in an image, best first."""
    right, scores = _pool(rankings)
    objects = sum(len(ranking.objects) for ranking in rankings)
    if not (len(right) and objects):
        return []
    recall = np.cumsum(right[np.argsort(-scores, kind="stable")]) / objects
    steps = np.unique(np.geomspace(1, len(right), POINTS).astype(np.int64)) - 1
    return list(zip(((steps + 1) / images).tolist(), recall[steps].tolist(), strict=True))


def recall_by_iou(truth: GroundTruth, found: Found) -> Curve:
    """Which share of the objects has a detection of its class, of any score, from each IoU on.

    Args:
        found: with boxes in the ground truth's coordinates.
    """
    count = len(truth.classes)
    objects = Objects.of(truth)
    best = np.zeros(len(objects.keys))
    for detections, others in pairs(found.images * count + found.labels, objects.keys):
        shared = overlaps(found.boxes[detections], objects.boxes[others])
        np.maximum.at(best, others, shared)
    best = best[~objects.difficult]
    return [(iou, float((best >= iou).mean())) for iou in IOUS] if len(best) else []


def calibration(rankings: Sequence[Ranking]) -> list[Bin] | None:
    """How often detections of about the same score are right; None if scores leave 0 to 1."""
    right, scores = _pool(rankings)
    if len(scores) and (scores.min() < 0 or scores.max() > 1):
        return None
    places = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    bins = []
    for place in range(BINS):
        inside = places == place
        some = bool(inside.any())
        bins.append(
            Bin(
                place / BINS,
                (place + 1) / BINS,
                int(inside.sum()),
                float(scores[inside].mean()) if some else None,
                float(right[inside].mean()) if some else None,
            )
        )
    return bins


def calibration_error(bins: Sequence[Bin]) -> float:
    """The mean distance of score and share that is right, over detections (expected calibration
    error; Naeini, Cooper and Hauskrecht, *Obtaining Well Calibrated Probabilities Using Bayesian
    Binning*, 2015).
    """
    total = sum(item.detections for item in bins)
    apart = sum(
        item.detections * abs(item.mean_score - item.right)
        for item in bins
        if item.mean_score is not None and item.right is not None
    )
    return apart / total if total else 0.0


def _pool(rankings: Sequence[Ranking]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Right or wrong and scores of all classes' detections."""
    right = np.concatenate([np.zeros(0, np.bool_), *(ranking.right for ranking in rankings)])
    scores = np.concatenate([np.zeros(0), *(ranking.scores for ranking in rankings)])
    return right, scores


def _some(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `POINTS` of these indices, evenly, with the first and the last."""
    if len(steps) <= POINTS:
        return steps
    return steps[np.linspace(0, len(steps) - 1, POINTS).round().astype(np.int64)]

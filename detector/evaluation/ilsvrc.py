"""The rule of ILSVRC's detection task (`eval_detection.m` of the kits of 2014 to 2017).

Boxes include their last pixels. A small object needs less overlap. Detections and objects of
blacklisted pairs of image and class do not count.

Letters of shapes: D detections, G objects, I images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.datasets.ground_truth import GroundTruth
from detector.evaluation.average_precision import area
from detector.evaluation.matching import Found, Objects, Pairs, pairs, rankings, take_free
from detector.evaluation.score import ClassScore, Ranking, Score, mean

RULE = (
    "ILSVRC DET: in each image, detections by falling confidence take the object of their class "
    "that they overlap most among those that are free and whose threshold "
    "min(0.5, wh / ((w + 10)(h + 10))) they reach; blacklisted pairs of image and class are left "
    "out; AP is the area under the precision envelope; the mean is over classes with objects"
)

Blacklist = Collection[tuple[int, int]]
"""Pairs of the position of an image and a label."""


def evaluate(
    truth: GroundTruth,
    found: Found,
    *,
    blacklist: Blacklist = (),
    shared: Collection[int] | None = None,
) -> tuple[Score, tuple[Ranking, ...]]:
    """Return the score of a submission, and the rankings that it comes from.

    Further figures are `mean_ap_iou50` (the plain rule: threshold 0.5 for every object, and no
    blacklist), `official` (the output of the official code), `shared` (the mean over the classes
    that the detector knows, if it lacks some) and `inverted_boxes` (the number of boxes that end
    before they begin; they are scored like others).

    Args:
        truth: The ground truth.
        found: Detections with inclusive boxes, as submissions have them.
        blacklist: Pairs of image and class that do not count.
        shared: Labels that the detector knows.
    """
    ranked = _rank(truth, found, blacklist)
    classes = tuple(
        ClassScore(number, name, ranking.ap(area), len(ranking.objects), ranking.detections)
        for (name, number), ranking in zip(truth.classes.items(), ranked, strict=True)
    )
    xmin, ymin, xmax, ymax = found.boxes.T
    figures: dict[str, Any] = {
        "mean_ap_iou50": mean([ranking.ap(area) for ranking in _rank(truth, found, plain=True)]),
        "official": _official(truth, classes),
        "shared": None,
        "inverted_boxes": int(((xmax < xmin) | (ymax < ymin)).sum()),
    }
    if shared is not None and len(shared) < len(classes):
        chosen = [classes[label] for label in sorted(shared)]
        aps = mean([item.ap for item in chosen])
        figures["shared"] = {"mean_ap": aps, "classes": [item.name for item in chosen]}
    return Score(RULE, len(truth.images), classes, figures), ranked


def plain(truth: GroundTruth, found: Found, blacklist: Blacklist) -> tuple[GroundTruth, Found]:
    """Return ground truth and detections in the form that other rules use.

    Boxes get exclusive ends. Objects of blacklisted pairs become difficult, and their detections
    are left out.
    """
    count = len(truth.classes)
    black = np.array([image * count + label for image, label in blacklist], np.int64)
    images = list(truth.images)
    for position in {position for position, _ in blacklist}:
        image = images[position]
        listed = np.isin(position * count + image.labels, black)
        images[position] = dataclasses.replace(image, difficult=image.difficult | listed)
    counted = found.take(np.flatnonzero(~np.isin(found.images * count + found.labels, black)))
    exclusive = counted._replace(boxes=counted.boxes + np.array([0, 0, 1, 1]))
    return GroundTruth(truth.classes, tuple(images)), exclusive


def _rank(
    truth: GroundTruth, found: Found, blacklist: Blacklist = (), *, plain: bool = False
) -> tuple[Ranking, ...]:
    """Return the ranking of each class; the plain rule has threshold 0.5 for every object."""
    count = len(truth.classes)
    objects = Objects.of(truth)
    boxes = objects.boxes - [0, 0, 1, 1]  # exclusive ends to inclusive ones
    needed = np.full(len(boxes), 0.5) if plain else thresholds(boxes)
    black = np.array([image * count + label for image, label in blacklist], np.int64)
    ordered = found.by_image()
    keys = ordered.images * count + ordered.labels
    ignored = np.isin(keys, black)
    right = _match(ordered.boxes, np.where(ignored, -1, keys), objects.keys, boxes, needed)
    to_find = objects.keys[~np.isin(objects.keys, black)]
    return rankings(ordered, right, ignored, to_find, count)


def thresholds(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU `[G]` that a detection needs with objects `[G, 4]`, with inclusive boxes.

    It is less than 0.5 for small objects: a box that is 5 pixels too large on each side is allowed.
    """
    w = boxes[:, 2] - boxes[:, 0] + 1
    h = boxes[:, 3] - boxes[:, 1] + 1
    allowed: NDArray[np.float64] = np.minimum(0.5, w * h / ((w + 10) * (h + 10)))
    return allowed


def _match(
    boxes: NDArray[np.float64],
    keys: NDArray[np.int64],
    object_keys: NDArray[np.int64],
    object_boxes: NDArray[np.float64],
    needed: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return which detections `[D]`, by image and descending confidence, match an object."""
    target = np.full(len(keys), -1)
    taken = bytearray(len(object_keys))
    for detections, objects in pairs(keys, object_keys):
        shared = _overlaps(boxes[detections], object_boxes[objects])
        fits = shared >= needed[objects]
        take_free(Pairs(detections, objects, shared).where(fits), target, taken)
    return target >= 0


def _overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU `[N]` of pairs of inclusive boxes `[N, 4]`, or -1 without an overlap."""
    ax1, ay1, ax2, ay2 = a.T
    bx1, by1, bx2, by2 = b.T
    w = np.minimum(ax2, bx2) - np.maximum(ax1, bx1) + 1
    h = np.minimum(ay2, by2) - np.maximum(ay1, by1) + 1
    union = (ax2 - ax1 + 1) * (ay2 - ay1 + 1) + (bx2 - bx1 + 1) * (by2 - by1 + 1) - w * h
    overlaps = np.full(len(a), -1.0)
    np.divide(w * h, union, out=overlaps, where=(w > 0) & (h > 0))
    return overlaps


def _official(truth: GroundTruth, classes: Sequence[ClassScore]) -> dict[str, Any]:
    """Return what the official code would print, with its handling of classes without objects.

    It takes the mean over all classes up to the last one that has objects. A class without objects
    has AP 0 if there is no detection of it; otherwise its AP, the mean and the median are NaN.
    """
    labels = np.concatenate([np.zeros(0, np.int64), *(image.labels for image in truth.images)])
    counted = classes[: int(labels.max(initial=-1)) + 1]
    spoilt = [item.name for item in counted if item.ap is None and item.detections]
    if spoilt or not counted:
        return {"mean_ap": None, "median_ap": None, "not_a_number": spoilt}
    values = [item.ap or 0.0 for item in counted]
    return {
        "mean_ap": float(np.mean(values)),
        "median_ap": float(np.median(values)),
        "not_a_number": [],
    }

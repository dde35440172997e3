"""The rule of ILSVRC's detection task (`eval_detection.m` of the kits of 2014 to 2017).

Sizes are pixel-inclusive, an object needs a smaller overlap where it is small, detections of
blacklisted pairs of image and class do not count, and neither do their objects.

Letters of shapes: D detections, G objects, I images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.ground_truth import GroundTruth
from detector.evaluation.average_precision import area
from detector.formats.ilsvrc import Submission

PAIRS_AT_ONCE = 1_000_000
"""Of a detection and an object, whose overlaps are computed together: the bound of the memory."""

RULE = (
    "ILSVRC DET: in each image, detections by falling confidence take the object of their class "
    "that they overlap most among those that are free and whose threshold "
    "min(0.5, wh / ((w + 10)(h + 10))) they reach; blacklisted pairs of image and class are left "
    "out; AP is the area under the precision envelope; the mean is over classes with objects"
)


@dataclass(frozen=True)
class ClassScore:
    """The score of a class; `ap` is None where it has no object to find."""

    id: int
    name: str
    ap: float | None
    positives: int
    detections: int


@dataclass(frozen=True)
class Official:
    """What the official code itself would print, with its handling of classes without objects.

    It takes the mean over all classes up to the last one with objects. One without objects has
    AP 0, or, if there is any detection of it, none: then mean and median are not numbers, and
    None here.
    """

    mean_ap: float | None
    median_ap: float | None
    not_a_number: tuple[str, ...]
    """The classes that spoil them."""


@dataclass(frozen=True)
class Score:
    """The score of a submission.

    Args:
        mean_ap: over classes with objects.
        mean_ap_iou50: of the plain rule: threshold 0.5 for every object, no blacklist.
        mean_ap_shared: over the classes that the detector has as well, where it lacks some.
        inverted: boxes whose end is before their begin. They are scored like others.
    """

    classes: tuple[ClassScore, ...]
    images: int
    mean_ap: float | None
    median_ap: float | None
    mean_ap_iou50: float | None
    mean_ap_shared: float | None
    shared: tuple[str, ...] | None
    official: Official
    inverted: int


class _Objects(NamedTuple):
    """Objects sorted by image and class."""

    keys: NDArray[np.int64]
    """`[G]`: image x classes + label."""
    boxes: NDArray[np.float64]
    """`[G, 4]`, inclusive."""
    thresholds: NDArray[np.float64]
    """`[G]`, the IoU that a detection needs."""


def score(
    truth: GroundTruth,
    submission: Submission,
    *,
    blacklist: Collection[tuple[int, int]] = (),
    shared: Collection[int] | None = None,
) -> Score:
    """Score a submission.

    Args:
        blacklist: pairs of an image's position and a label.
        shared: the labels that the detector knows, if these are not all.
    """
    count = len(truth.classes)
    objects = _objects(truth)
    black = np.array([image * count + label for image, label in blacklist], np.int64)
    order = np.lexsort((-submission.scores, submission.images))  # stable: then by the file
    in_order = submission.take(order)
    keys = in_order.images * count + in_order.labels
    ignored = np.isin(keys, black)
    positives = np.bincount(objects.keys[~np.isin(objects.keys, black)] % count, minlength=count)
    aps = _average_precisions(
        in_order, _match(in_order, keys, objects, ignored), ignored, positives
    )
    plain = objects._replace(thresholds=np.full(len(objects.keys), 0.5))
    none = np.zeros(len(keys), np.bool_)
    all_positives = np.bincount(objects.keys % count, minlength=count)
    plain_aps = _average_precisions(
        in_order, _match(in_order, keys, plain, none), none, all_positives
    )
    detections = np.bincount(submission.labels, minlength=count)
    names = list(truth.classes)
    xmin, ymin, xmax, ymax = submission.boxes.T
    return Score(
        classes=tuple(
            ClassScore(number, name, aps[label], int(positives[label]), int(detections[label]))
            for label, (name, number) in enumerate(truth.classes.items())
        ),
        images=len(truth.images),
        mean_ap=_mean(aps.values()),
        median_ap=_median(aps.values()),
        mean_ap_iou50=_mean(plain_aps.values()),
        mean_ap_shared=None if shared is None else _mean(aps[label] for label in shared),
        shared=None if shared is None else tuple(names[label] for label in sorted(shared)),
        official=_official(aps, all_positives, detections, names),
        inverted=int(((xmax < xmin) | (ymax < ymin)).sum()),
    )


def thresholds(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The IoU `[G]` that a detection needs with objects `[G, 4]`, inclusive: less than 0.5 for
    small ones, of which 5 pixels more on each side may be part.
    """
    w = boxes[:, 2] - boxes[:, 0] + 1
    h = boxes[:, 3] - boxes[:, 1] + 1
    allowed: NDArray[np.float64] = np.minimum(0.5, w * h / ((w + 10) * (h + 10)))
    return allowed


def _objects(truth: GroundTruth) -> _Objects:
    count = len(truth.classes)
    boxes = np.concatenate([np.zeros((0, 4)), *(image.boxes for image in truth.images)])
    boxes = boxes.astype(np.float64) - [0, 0, 1, 1]  # exclusive ends to inclusive ones
    keys = np.concatenate(
        [np.zeros(0, np.int64)]
        + [position * count + image.labels for position, image in enumerate(truth.images)]
    )
    order = np.argsort(keys, kind="stable")  # equal overlaps go by the order of annotation
    return _Objects(keys[order], boxes[order], thresholds(boxes[order]))


def _match(
    detections: Submission,
    keys: NDArray[np.int64],
    objects: _Objects,
    ignored: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which detections `[D]`, by image and falling confidence, find an object."""
    first = np.searchsorted(objects.keys, keys, "left")
    candidates = np.searchsorted(objects.keys, keys, "right") - first  # [D], objects of its class
    candidates[ignored] = 0
    ends = np.cumsum(candidates)
    right = np.zeros(len(keys), np.bool_)
    taken = bytearray(len(objects.keys))
    start = 0
    while start < len(keys):
        before = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, "right")))
        part = slice(start, end)
        index = np.repeat(np.arange(start, end), candidates[part])
        begins = np.repeat(ends[part] - candidates[part] - before, candidates[part])
        other = np.repeat(first[part], candidates[part]) + np.arange(len(index)) - begins
        overlaps = _overlaps(detections.boxes[index], objects.boxes[other])
        fits = overlaps >= objects.thresholds[other]
        index, other, overlaps = index[fits], other[fits], overlaps[fits]
        order = np.lexsort((other, -overlaps, index))
        for detection, found in zip(index[order].tolist(), other[order].tolist(), strict=True):
            if not (right[detection] or taken[found]):
                right[detection] = taken[found] = True
        start = end
    return right


def _overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The IoU `[N]` of pairs of inclusive boxes `[N, 4]`, -1 where they do not meet."""
    ax1, ay1, ax2, ay2 = a.T
    bx1, by1, bx2, by2 = b.T
    w = np.minimum(ax2, bx2) - np.maximum(ax1, bx1) + 1
    h = np.minimum(ay2, by2) - np.maximum(ay1, by1) + 1
    union = (ax2 - ax1 + 1) * (ay2 - ay1 + 1) + (bx2 - bx1 + 1) * (by2 - by1 + 1) - w * h
    overlaps = np.full(len(a), -1.0)
    np.divide(w * h, union, out=overlaps, where=(w > 0) & (h > 0))
    return overlaps


def _average_precisions(
    detections: Submission,
    right: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    positives: NDArray[np.int64],
) -> Mapping[int, float | None]:
    """AP by label from detections by image and falling confidence; None without objects."""
    pooled = np.argsort(-detections.scores, kind="stable")  # equal ones by image, then as there
    pooled = pooled[~ignored[pooled]]
    labels = detections.labels[pooled]
    by_class = pooled[np.argsort(labels, kind="stable")]
    bounds = np.cumsum(np.bincount(labels, minlength=len(positives)))
    rankings = np.split(right[by_class], bounds[:-1])
    return {
        label: area(ranking, int(count)) if count else None
        for label, (ranking, count) in enumerate(zip(rankings, positives, strict=True))
    }


def _official(
    aps: Mapping[int, float | None],
    positives: NDArray[np.int64],
    detections: NDArray[np.int64],
    names: list[str],
) -> Official:
    last = int(np.flatnonzero(positives).max(initial=-1))
    labels = range(last + 1)
    spoilt = tuple(names[i] for i in labels if aps[i] is None and detections[i])
    values = [aps[label] or 0.0 for label in labels]
    if spoilt or not values:
        return Official(None, None, spoilt)
    return Official(float(np.mean(values)), float(np.median(values)), ())


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def _median(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.median(present)) if present else None


def to_json(result: Score) -> Mapping[str, object]:
    """The score as `detector-eval --json` writes it."""
    return {"rule": RULE, **asdict(result)}

"""PASCAL VOC's rule (`VOCevaldet.m`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.evaluation.average_precision import area, eleven_points
from detector.formats.native import Entry
from proposals.boxes import iou

MINIMUM_IOU = 0.5
RULE = (
    "PASCAL VOC 2007: a detection is right if its IoU with the object that it overlaps most is at "
    "least 0.5 and no better-scored one has found that object; difficult objects are neither "
    "right nor wrong; mean_ap is the exact area under the precision envelope, mean_ap_11point "
    "VOC 2007's own mean over eleven recalls"
)


@dataclass(frozen=True)
class ClassScore:
    """The score of a class; `ap` and `ap_11point` are None where it has no object to find."""

    id: int
    name: str
    ap: float | None
    ap_11point: float | None
    positives: int
    detections: int


@dataclass(frozen=True)
class Score:
    """The score of a set of detections.

    `without_detections` counts images of the ground truth that the detections do not mention.
    """

    classes: tuple[ClassScore, ...]
    images: int
    without_detections: int

    @property
    def mean_ap(self) -> float | None:
        """The mean of the classes' areas, over classes with objects."""
        return _mean([score.ap for score in self.classes])

    @property
    def mean_ap_11point(self) -> float | None:
        """The mean of the classes' eleven-point precisions, over classes with objects."""
        return _mean([score.ap_11point for score in self.classes])

    @property
    def median_ap(self) -> float | None:
        """The median of the classes' areas, over classes with objects."""
        values = [score.ap for score in self.classes if score.ap is not None]
        return float(np.median(values)) if values else None


def score(truth: GroundTruth, entries: Iterable[Entry]) -> Score:
    """Score detections by VOC's rule.

    Detections of images or classes that the ground truth has not are left out. Equal scores rank
    in the order of the ground truth's images, then in that of the entry's detections.
    """
    found = _entries_of(truth, list(entries))
    classes = tuple(
        _score_class(truth, found, label, name, number)
        for label, (name, number) in enumerate(truth.classes.items())
    )
    return Score(classes, len(truth.images), sum(entry is None for entry in found))


def _entries_of(truth: GroundTruth, entries: list[Entry]) -> list[Entry | None]:
    """The entry of each image: by its path, or else by its name, where that is the only one."""
    by_path = {entry.file: entry for entry in entries}
    entry_names = Counter(PurePath(entry.file).name for entry in entries)
    image_names = Counter(PurePath(image.file).name for image in truth.images)
    by_name = {PurePath(entry.file).name: entry for entry in entries}

    def find(file: str) -> Entry | None:
        name = PurePath(file).name
        unique = entry_names[name] == 1 and image_names[name] == 1
        return by_path.get(file) or (by_name[name] if unique else None)

    return [find(image.file) for image in truth.images]


def _score_class(
    truth: GroundTruth, found: list[Entry | None], label: int, name: str, number: int
) -> ClassScore:
    scores: list[NDArray[np.float64]] = []
    right: list[NDArray[np.bool_]] = []
    counted: list[NDArray[np.bool_]] = []
    positives = 0
    for image, entry in zip(truth.images, found, strict=True):
        positives += int((~image.difficult[image.labels == label]).sum())
        chosen = [d for d in entry.detections if d.label == name] if entry else []
        if chosen:
            chosen.sort(key=lambda detection: -detection.score)
            scores.append(np.array([detection.score for detection in chosen]))
            boxes = np.array([detection.box for detection in chosen], np.float32)
            matches = _match(image, boxes, label)
            right.append(matches[0])
            counted.append(matches[1])
    ap = ap_11point = None
    detections = sum(map(len, scores))
    if positives:
        ranking = np.zeros(0, np.bool_)
        if detections:
            order = np.argsort(-np.concatenate(scores), kind="stable")
            ranking = np.concatenate(right)[order][np.concatenate(counted)[order]]
        ap, ap_11point = area(ranking, positives), eleven_points(ranking, positives)
    return ClassScore(number, name, ap, ap_11point, positives, detections)


def _match(
    image: AnnotatedImage, boxes: NDArray[np.float32], label: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections `[D, 4]` of a class, best first, are right, and which count at all."""
    mine = image.labels == label
    difficult = image.difficult[mine]
    right, counted = np.zeros(len(boxes), np.bool_), np.ones(len(boxes), np.bool_)
    if not mine.any():
        return right, counted
    overlaps = iou(boxes, image.boxes[mine])  # [D, objects]
    taken = np.zeros(len(difficult), np.bool_)
    for index, target in enumerate(overlaps.argmax(axis=1)):
        if overlaps[index, target] < MINIMUM_IOU:
            continue
        if difficult[target]:
            counted[index] = False
        else:
            right[index] = not taken[target]
            taken[target] = True
    return right, counted


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def to_json(result: Score) -> Mapping[str, object]:
    """The score as `detector-eval --json` writes it."""
    return {
        "rule": RULE,
        "mean_ap": result.mean_ap,
        "mean_ap_11point": result.mean_ap_11point,
        "median_ap": result.median_ap,
        "images": result.images,
        "classes": [vars(item) for item in result.classes],
    }

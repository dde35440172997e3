"""COCO's rule, by pycocotools, without its pitfalls.

pycocotools takes annotation 0 for "no match", overwrites `ignore` with `iscrowd`, fails if there is
no detection, and accepts scores that are not numbers. Here annotations are numbered from 1, files
with `ignore` are refused, an empty list of detections is allowed, and detections have been checked
when they were read.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.datasets.coco import area, flag
from detector.datasets.ground_truth import GroundTruth
from detector.errors import FormatError
from detector.evaluation.average_precision import hundred_and_one_points
from detector.evaluation.matching import Found
from detector.evaluation.score import ClassScore, Ranking, Score

RULE = (
    "COCO, by pycocotools: in each image, the 100 best detections of a class by falling score take "
    "the free object that they overlap most with an IoU of at least 0.5 (AP: 0.50 to 0.95); crowds "
    "are neither right nor wrong; mean_ap is the mean of the precision envelope at 101 recalls, at "
    "IoU 0.5"
)
FIGURES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
"""The twelve figures in COCO's order. A figure is None if there is no object of its size."""


def check(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse annotations that pycocotools would score in another way than documented.

    Raises:
        FormatError: An annotation is to be ignored without being a crowd. The message names it.
    """
    for index, item in enumerate(content["annotations"]):
        if flag(item, "ignore") and not flag(item, "iscrowd"):
            raise FormatError(
                path,
                f"annotations[{index}]: ignore is 1, which COCO's rule overlooks where iscrowd is "
                "0: set iscrowd, or remove ignore",
            )


def evaluate(
    truth: GroundTruth, content: Mapping[str, Any], found: Found
) -> tuple[Score, tuple[Ranking, ...]]:
    """Return the score of detections, and the rankings at IoU 0.5 that it comes from.

    Args:
        truth: The ground truth.
        content: Content of the annotation file, which has crowds and areas.
        found: The detections.
    """
    # pycocotools ranks equal scores by the image's id.
    order = np.argsort([image.image_id or 0 for image in truth.images], kind="stable")
    places = np.argsort(order)  # [images], the rank of each image's id
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        evaluation = COCOeval(
            _truth(truth, content, places), _detections(truth, found, places), "bbox"
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()

    rankings = _rankings(truth, evaluation, found, order)
    classes = tuple(
        ClassScore(
            number,
            name,
            ranking.ap(hundred_and_one_points),
            len(ranking.objects),
            ranking.detections,
        )
        for (name, number), ranking in zip(truth.classes.items(), rankings, strict=True)
    )
    figures = {
        name: float(value) if value > -1 else None
        for name, value in zip(FIGURES, evaluation.stats, strict=True)
    }
    return Score(RULE, len(truth.images), classes, figures), rankings


def _truth(truth: GroundTruth, content: Mapping[str, Any], places: NDArray[np.intp]) -> COCO:
    images = zip(content["images"], places.tolist(), strict=True)
    positions = {item["id"]: place + 1 for item, place in images}
    labels = {number: n for n, number in enumerate(truth.classes.values(), start=1)}
    return _coco(
        truth,
        [
            {
                "id": number,
                "image_id": positions[item["image_id"]],
                "category_id": labels[item["category_id"]],
                "bbox": item["bbox"],
                "area": area(item),
                "iscrowd": int(flag(item, "iscrowd")),
            }
            for number, item in enumerate(content["annotations"], start=1)
        ],
    )


def _detections(truth: GroundTruth, found: Found, places: NDArray[np.intp]) -> COCO:
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    rows = zip(
        (places[found.images] + 1).tolist(),
        (found.labels + 1).tolist(),
        found.scores.tolist(),
        np.concatenate([found.boxes[:, :2], sides], axis=1).tolist(),
        strict=True,
    )
    return _coco(
        truth,
        [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "score": score,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, (image, category, score, box) in enumerate(rows, start=1)
        ],
    )


def _coco(truth: GroundTruth, annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": n} for n in range(1, len(truth.images) + 1)],
        "categories": [{"id": n} for n in range(1, len(truth.classes) + 1)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _rankings(
    truth: GroundTruth, evaluation: COCOeval, found: Found, images: NDArray[np.intp]
) -> tuple[Ranking, ...]:
    """Return what pycocotools matched at IoU 0.5, for objects of all sizes."""
    detections = np.bincount(found.labels, minlength=len(truth.classes))
    rankings = []
    for label in range(len(truth.classes)):
        start = label * len(evaluation.params.areaRng) * len(images)  # by class, size, image
        scores = []
        right = []
        positions = []
        objects = []
        of_class = evaluation.evalImgs[start : start + len(images)]
        for position, item in zip(images.tolist(), of_class, strict=True):
            if item is None:
                continue
            counted = ~item["dtIgnore"][0].astype(np.bool_)
            scores.append(np.array(item["dtScores"])[counted])
            right.append((item["dtMatches"][0] > 0)[counted])
            positions.append(np.full(counted.sum(), position))
            objects.append(np.full(int((item["gtIgnore"] == 0).sum()), position))

        none = np.zeros(0)
        all_scores = np.concatenate([none, *scores])
        best_first = np.argsort(-all_scores, kind="stable")
        rankings.append(
            Ranking(
                np.concatenate([none, *right]).astype(np.bool_)[best_first],
                np.concatenate([none, *positions]).astype(np.int64)[best_first],
                all_scores[best_first],
                np.concatenate([none, *objects]).astype(np.int64),
                int(detections[label]),
            )
        )
    return tuple(rankings)

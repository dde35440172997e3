"""From class probabilities to detections: thresholds, non-maximum suppression, ranking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.results import Detection
from detector.settings import DetectionSettings
from proposals.boxes import nms, overlapping_pairs
from proposals.types import Boxes


def select_detections(
    boxes: Boxes,
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    settings: DetectionSettings,
) -> list[Detection]:
    """Return the detections of an image, best first; equal scores by class, then by box order.

    As in R-CNN, every proposal has a score for every class, and each class suppresses its own
    overlaps: a box is dropped when its IoU with a better one is over the threshold. The class need
    not be the box's best one.

    Args:
        boxes: Proposals `float32 [N, 4]` in canonical order.
        probabilities: `[N, 1 + len(classes)]`; column 0 is background.
        classes: Names of the classes.
        settings: Thresholds and limits.
    """
    # Scores are rounded as files print them, so that all files agree.
    scores = probabilities[:, 1:].round(6)  # [N, classes]
    (candidates,) = np.nonzero((scores >= settings.score_threshold).any(axis=1))
    boxes = boxes[candidates]
    scores = scores[candidates]

    # All classes share one matrix of overlaps.
    overlaps = overlapping_pairs(boxes, settings.nms_iou)  # [N, N]
    reported = classes if settings.classes == "all" else settings.classes
    ranked: list[tuple[float, int, int]] = []  # negative score, class, box
    for column, label in enumerate(classes):
        if label not in reported:
            continue
        class_scores = scores[:, column]
        (above,) = np.nonzero(class_scores >= settings.score_threshold)
        survivors = above[nms(overlaps[np.ix_(above, above)], class_scores[above])]
        if settings.max_detections_per_class != "all":
            survivors = survivors[: settings.max_detections_per_class]
        ranked += [(-float(class_scores[box]), column, int(box)) for box in survivors]

    ranked.sort()
    if settings.max_detections != "all":
        del ranked[settings.max_detections :]
    return [
        Detection(classes[column], round(-negative, 6), tuple(boxes[box].tolist()))
        for negative, column, box in ranked
    ]

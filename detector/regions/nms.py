"""From class probabilities to detections: non-maximum suppression and ranking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.results import Detection
from detector.settings import DetectionSettings
from proposals.boxes import nms, overlap_by_more
from proposals.types import Boxes


def select(
    boxes: Boxes,
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    settings: DetectionSettings,
) -> list[Detection]:
    """The detections of an image, best first; equal scores by class and then by box order.

    R-CNN's way: every proposal is scored for every class, and each class suppresses its own
    overlaps (a box is dropped when its IoU with a better one is over the threshold). A box need
    not have the class as its best one.

    Args:
        boxes: proposals `[N, 4]` in canonical order.
        probabilities: `[N, 1 + len(classes)]`; column 0 is background.
    """
    probabilities = probabilities[:, 1:].round(6)  # as files print them, so that files agree
    possible = np.flatnonzero((probabilities >= settings.score_threshold).any(axis=1))
    boxes, probabilities = boxes[possible], probabilities[possible]
    overlaps = overlap_by_more(boxes, settings.nms_iou)  # [N, N]
    wanted = classes if settings.classes == "all" else settings.classes
    found: list[tuple[float, int, int]] = []
    for column, label in enumerate(classes):
        if label not in wanted:
            continue
        scores = probabilities[:, column]
        (candidates,) = np.nonzero(scores >= settings.score_threshold)
        kept = candidates[nms(overlaps[np.ix_(candidates, candidates)], scores[candidates])]
        if settings.max_detections_per_class != "all":
            kept = kept[: settings.max_detections_per_class]
        found += [(-float(scores[index]), column, int(index)) for index in kept]
    found.sort()
    if settings.max_detections != "all":
        del found[settings.max_detections :]
    return [
        Detection(classes[column], round(-negative, 6), tuple(boxes[index].tolist()))
        for negative, column, index in found
    ]

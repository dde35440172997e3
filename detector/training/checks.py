"""What annotations must be to be trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detector.datasets.ground_truth import GroundTruth
from detector.errors import FormatError

MARGIN = 1.0
"""Pixels that a box may reach over its photo's edge, for tools round differently."""


def check_boxes(truth: GroundTruth, file: Path) -> None:
    """Hold boxes against the sizes of their photos.

    Raises:
        FormatError: naming the photo and the first box that is outside of it or has no pixel.
    """
    for image in truth.images:
        limits = np.array([image.width, image.height] * 2)
        outside = ((image.boxes < -MARGIN) | (image.boxes > limits + MARGIN)).any(axis=1)
        whole = np.round(image.boxes).clip(0, limits)
        empty = (whole[:, :2] >= whole[:, 2:]).any(axis=1)
        for bad, reason in ((outside, "reaches out of"), (empty, "has no whole pixel of")):
            if bad.any():
                number = int(bad.argmax())
                raise FormatError(
                    file,
                    f"{image.file}: box {number + 1} of {len(image.boxes)} "
                    f"({', '.join(f'{edge:g}' for edge in image.boxes[number])}) {reason} the "
                    f"{image.width}x{image.height} photo",
                )


def check_classes(truth: GroundTruth, file: Path) -> None:
    """See that there is something to learn of each class.

    Raises:
        FormatError: naming the first class without a box.
    """
    labels = np.concatenate([np.zeros(0, np.int64), *(image.labels for image in truth.images)])
    counts = np.bincount(labels, minlength=len(truth.classes))
    for name, count in zip(truth.classes, counts, strict=True):
        if count == 0:
            raise FormatError(file, f"class {name!r} has no box: remove the class or annotate it")

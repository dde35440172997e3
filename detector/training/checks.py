"""Checks of annotations before they are trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError

MARGIN = 1.0
"""Number of pixels by which a box may leave its image, because tools round differently."""


def check_boxes(truth: GroundTruth, file: Path) -> None:
    """Check that all boxes lie inside their images.

    Args:
        truth: The annotations.
        file: Their file, for the error message.

    Raises:
        FormatError: A box leaves its image or contains no whole pixel. The message names the image
            and its first such box.
    """
    for image in truth.images:
        limits = np.array([image.width, image.height] * 2)
        outside = (image.boxes < -MARGIN) | (image.boxes > limits + MARGIN)  # [N, 4]
        _raise_first(np.any(outside, axis=1), "reaches out of", image, file)

        rounded = np.round(image.boxes).clip(0, limits)
        empty = rounded[:, :2] >= rounded[:, 2:]  # [N, 2]
        _raise_first(np.any(empty, axis=1), "has no whole pixel of", image, file)


def check_classes(truth: GroundTruth, file: Path) -> None:
    """Check that each class has an object to learn from.

    Args:
        truth: The annotations.
        file: Their file, for the error message.

    Raises:
        FormatError: A class has no box. The message names the first one.
    """
    labels = np.concatenate([np.zeros(0, np.int64), *(image.labels for image in truth.images)])
    counts = np.bincount(labels, minlength=len(truth.classes))
    for name, count in zip(truth.classes, counts, strict=True):
        if count == 0:
            raise FormatError(file, f"class {name!r} has no box: remove the class or annotate it")


def _raise_first(
    is_bad: NDArray[np.bool_],
    reason: str,
    image: AnnotatedImage,
    file: Path,
) -> None:
    """Raise an error if a box of an image is bad.

    Args:
        is_bad: `bool [N]`, which boxes are bad. The error names the first one.
        reason: Verb phrase of the message, which continues with the image's size.
        image: The image.
        file: The file of the annotations.
    """
    if not is_bad.any():
        return
    index = int(is_bad.argmax())
    edges = ", ".join(f"{edge:g}" for edge in image.boxes[index])
    raise FormatError(
        file,
        f"{image.file}: box {index + 1} of {len(image.boxes)} ({edges}) {reason} the "
        f"{image.width}x{image.height} photo",
    )

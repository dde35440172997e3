"""Boxes and classes that cannot be trained on: they are clipped or left out, and named.

With `--strict`, the first one is an error instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.bundles.manifest import check_class_name
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError, SettingsError
from detector.training.data_set import DataSet, DataSets, with_classes

NAMES_IN_LINE = 10
"""Number of classes that a line names."""


def clean_boxes(data_sets: DataSets, *, strict: bool) -> tuple[DataSets, list[str]]:
    """Clip boxes that reach out of their images, and drop those without a whole pixel inside.

    Args:
        data_sets: Annotated images.
        strict: Whether such a box is an error.

    Returns:
        The data sets, and a line for each kind of change to one of them.

    Raises:
        FormatError: There is such a box, and `strict` is set. The message names the first.
    """
    notes: list[str] = []

    def clean(data_set: DataSet | None) -> DataSet | None:
        if data_set is None:
            return None
        truth, lines = clean_truth(data_set.truth, data_set.file, data_set.margin, strict=strict)
        notes.extend(lines)
        return data_set._replace(truth=truth)

    data, validation, objects = (clean(data_set) for data_set in data_sets)
    assert data is not None
    return DataSets(data, validation, objects), notes


def clean_truth(
    truth: GroundTruth, file: Path, margin: float, *, strict: bool
) -> tuple[GroundTruth, list[str]]:
    """Clip and drop boxes of a ground truth; see `clean_boxes`.

    Args:
        truth: The annotations.
        file: Their file, for messages.
        margin: Number of pixels by which a box may leave its image.
        strict: Whether a box that is clipped or dropped is an error.
    """
    clipped = _Boxes("clipped", "reaches out of")
    dropped = _Boxes("dropped", "has no whole pixel of")
    images = []
    for image in truth.images:
        limits = np.array([image.width, image.height] * 2, np.float32)
        inside = image.boxes.clip(0, limits)  # [N, 4]
        whole = np.round(inside)
        is_empty = np.any(whole[:, :2] >= whole[:, 2:], axis=1)  # [N]
        is_outside = np.any((image.boxes < -margin) | (image.boxes > limits + margin), axis=1)

        for boxes, is_bad in ((clipped, is_outside & ~is_empty), (dropped, is_empty)):
            boxes.add(image, is_bad)
            if strict and boxes.count:
                raise FormatError(file, boxes.first)
        if is_outside.any() or is_empty.any():
            kept = ~is_empty
            image = replace(
                image,
                boxes=np.where(is_outside[:, None], inside, image.boxes)[kept],
                labels=image.labels[kept],
                difficult=image.difficult[kept],
            )
        images.append(image)
    notes = [f"{file}: {boxes}" for boxes in (clipped, dropped) if boxes.count]
    return GroundTruth(truth.classes, tuple(images)), notes


def clean_classes(data_sets: DataSets, *, strict: bool) -> tuple[DataSets, list[str]]:
    """Leave out classes that have no box to learn from.

    Args:
        data_sets: Annotated images.
        strict: Whether such a class is an error.

    Returns:
        The data sets, and a line if a class was left out.

    Raises:
        FormatError: No class has a box, or one has none and `strict` is set, or other images than
            those to train on have an object of such a class. Or a bundle cannot have a class's
            name.
        SettingsError: The data sets have different classes.
    """
    data, validation, objects = data_sets
    for other in filter(None, (objects, validation)):
        if tuple(other.truth.classes) != tuple(data.truth.classes):
            raise SettingsError(f"{other.file}: has other classes than {data.file}")

    used = data.truth.classes_with_objects
    for name in used:
        try:
            check_class_name(name)
        except ValueError as error:
            raise FormatError(data.file, str(error)) from error

    unused = [name for name in data.truth.classes if name not in used]
    if not unused:
        return data_sets, []
    if strict or not used:
        raise FormatError(
            data.file, f"class {unused[0]!r} has no box: remove the class or annotate it"
        )
    cleaned = DataSets(
        data=with_classes(data, used, data),
        validation=with_classes(validation, used, data) if validation else None,
        objects=with_classes(objects, used, data) if objects else None,
    )
    return cleaned, [f"{data.file}: {_describe_classes(unused)}"]


class _Boxes:
    """Counts boxes that are changed in one way, and describes the first.

    Args:
        change: What is done to them.
        reason: Verb phrase that continues with the image's size.
    """

    def __init__(self, change: str, reason: str) -> None:
        self._change = change
        self._reason = reason
        self.count = 0
        self.first = ""

    def add(self, image: AnnotatedImage, is_bad: NDArray[np.bool_]) -> None:
        """Count the boxes `bool [N]` of an image."""
        if not is_bad.any():
            return
        if not self.count:
            index = int(is_bad.argmax())
            edges = ", ".join(f"{edge:g}" for edge in image.boxes[index])
            self.first = (
                f"{image.file}: box {index + 1} of {len(image.boxes)} ({edges}) {self._reason} "
                f"the {image.width}x{image.height} photo"
            )
        self.count += int(is_bad.sum())

    def __str__(self) -> str:
        if self.count == 1:
            return f"1 box is {self._change}: {self.first}"
        return f"{self.count} boxes are {self._change}, the first is {self.first}"


def _describe_classes(names: Sequence[str]) -> str:
    """Return what is said of classes without a box."""
    shown = ", ".join(map(repr, names[:NAMES_IN_LINE]))
    more = f" and {len(names) - NAMES_IN_LINE} more" if len(names) > NAMES_IN_LINE else ""
    if len(names) == 1:
        return f"class {shown} has no box and is left out"
    return f"{len(names)} classes have no box and are left out: {shown}{more}"

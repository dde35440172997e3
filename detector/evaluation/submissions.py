"""Detections in any format, as a submission to ILSVRC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from detector.datasets.ilsvrc import Validation
from detector.errors import FormatError
from detector.evaluation.matching import Found, columns
from detector.formats import coco, ilsvrc, native
from detector.formats.ilsvrc import CLASS_COUNT, class_numbers
from detector.formats.native import Entry


def read(path: Path, validation: Validation) -> tuple[Found, frozenset[int] | None]:
    """The detections of a file: a submission, our JSON, or COCO's results.

    COCO's results name images by the list's numbers and classes by 1 to 200.

    Returns:
        The submission, and the labels that the detector knows, where the file says so.

    Raises:
        FormatError: naming the file, and the line or the item that is wrong.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(1024).lstrip()[:1]
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror}") from error
    if start == b"{":
        classes, entries = native.read(path)
        return from_entries(entries, validation), known_labels(classes)
    if start == b"[":
        return _from_results(path, coco.read(path), validation), None
    return Found(*ilsvrc.read(path, validation.numbers)), None


def known_labels(classes: Iterable[str]) -> frozenset[int]:
    """The labels of those classes that are exactly one of the 200."""
    numbers = class_numbers()
    return frozenset(numbers[name] - 1 for name in classes if name in numbers)


def from_entries(entries: Iterable[Entry], validation: Validation) -> Found:
    """The submission of our own detections; those of other images and classes are left out."""
    positions = {
        PurePath(image.file).stem: position
        for position, image in enumerate(validation.truth.images)
    }
    numbers = class_numbers()
    rows = [
        (positions[stem], numbers[label] - 1, score, x1, y1, x2 - 1, y2 - 1)
        for entry in entries
        if (stem := PurePath(entry.file).stem) in positions
        for label, score, (x1, y1, x2, y2) in entry.detections
        if label in numbers
    ]
    return columns(rows)


def _from_results(path: Path, results: Sequence[coco.Result], validation: Validation) -> Found:
    positions = {number: position for position, number in enumerate(validation.numbers)}
    rows = []
    for index, (image, category, score, (x, y, w, h)) in enumerate(results):
        if image not in positions:
            raise FormatError(path, f"[{index}]: image_id {image} is not in the list")
        if category not in range(1, CLASS_COUNT + 1):
            raise FormatError(path, f"[{index}]: category_id {category} is not one of 1 to 200")
        rows.append((positions[image], category - 1, score, x, y, x + w - 1, y + h - 1))
    return columns(rows)

"""Detections in any format, as columns beside a ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError
from detector.evaluation.matching import Found, columns
from detector.formats import coco, ilsvrc, native, voc
from detector.formats.ilsvrc import class_numbers
from detector.formats.records import Entry


class Detections(NamedTuple):
    """The content of a file of detections."""

    found: Found
    classes: Sequence[str] | None = None
    """The classes that the detector knows, if the file lists them."""
    missing: int | None = None
    """Number of images that the file does not mention, if it lists those without detections."""


def read(path: Path, truth: GroundTruth) -> Detections:
    """Read detections from our JSON, COCO results, or a folder of VOC's text files.

    COCO results name images and classes by the ids of the ground truth. Detections on other images
    or of other classes are left out in our JSON, and are an error in the other formats.

    Raises:
        FormatError: A line or an item is wrong. The message names it and the file.
    """
    labels = {name: label for label, name in enumerate(truth.classes)}
    if path.is_dir():
        positions = {PurePath(image.file).stem: n for n, image in enumerate(truth.images)}
        return Detections(columns(voc.read(path, positions, labels)))
    if _first_character(path) == b"[":
        return Detections(_from_results(path, truth))
    classes, entries = native.read(path)
    found, missing = from_entries(entries, truth.images, labels)
    return Detections(found, classes, missing)


def read_submission(path: Path, truth: GroundTruth) -> Detections:
    """Read detections with inclusive boxes, as ILSVRC has them.

    The file is a submission in ILSVRC's format, our JSON, or COCO results.

    Raises:
        FormatError: A line or an item is wrong. The message names it and the file.
    """
    start = _first_character(path)
    if start == b"{":
        classes, entries = native.read(path)
        labels = {name: number - 1 for name, number in class_numbers().items()}
        found, missing = from_entries(entries, truth.images, labels)
        return Detections(_inclusive(found), classes, missing)
    if start == b"[":
        return Detections(_inclusive(_from_results(path, truth)))
    numbers = [image.image_id or 0 for image in truth.images]
    return Detections(Found(*ilsvrc.read(path, numbers)))


def from_entries(
    entries: Iterable[Entry], images: Sequence[AnnotatedImage], labels: Mapping[str, int]
) -> tuple[Found, int]:
    """Return the detections of entries, and the number of images without an entry.

    An image's entry is the one with its path. Otherwise it is the one with its file name, if no
    other image and no other entry has that name.
    """
    known = list(entries)
    by_path = {entry.file: entry for entry in known}
    entry_names = Counter(PurePath(entry.file).name for entry in known)
    image_names = Counter(PurePath(image.file).name for image in images)
    by_name = {PurePath(entry.file).name: entry for entry in known}

    rows: list[tuple[float, ...]] = []
    missing = 0
    for position, image in enumerate(images):
        name = PurePath(image.file).name
        unique = entry_names[name] == 1 and image_names[name] == 1
        entry = by_path.get(image.file) or (by_name[name] if unique else None)
        missing += entry is None
        rows += [
            (position, labels[label], score, *box)
            for label, score, box in (entry.detections if entry else ())
            if label in labels
        ]
    return columns(rows), missing


def _from_results(path: Path, truth: GroundTruth) -> Found:
    positions = {image.image_id: position for position, image in enumerate(truth.images)}
    labels = {number: label for label, number in enumerate(truth.classes.values())}
    rows = []
    for index, (image, category, score, (x, y, w, h)) in enumerate(coco.read(path)):
        if image not in positions:
            raise FormatError(path, f"[{index}]: the ground truth has no image_id {image}")
        if category not in labels:
            raise FormatError(path, f"[{index}]: the ground truth has no category_id {category}")
        rows.append((positions[image], labels[category], score, x, y, x + w, y + h))
    return columns(rows)


def _inclusive(found: Found) -> Found:
    return found._replace(boxes=found.boxes - [0, 0, 1, 1])


def _first_character(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1024).lstrip()[:1]
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror}") from error

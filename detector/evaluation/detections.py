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
    """What a file of detections says."""

    found: Found
    classes: Sequence[str] | None = None
    """Those that the detector knows, where the file has them."""
    missing: int | None = None
    """How many images it does not mention, where it names those without detections as well."""


def read(path: Path, truth: GroundTruth) -> Detections:
    """The detections of a file: our JSON, COCO's results, or a folder of VOC's text files.

    COCO's results name images and classes by the ground truth's ids. What is about other images and
    classes is left out where it is our JSON, and an error elsewhere.

    Raises:
        FormatError: naming the file, and the line or the item that is wrong.
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
    """The same with inclusive boxes, as ILSVRC has them: from a submission in its own format, our
    JSON, or COCO's results.

    Raises:
        FormatError: naming the file, and the line or the item that is wrong.
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
    """Our detections, and how many images they do not mention.

    An image's entry is that with its path, or else with its name, where no other image and no
    other entry has it.
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

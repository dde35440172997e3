"""Detections in any format, as columns beside a ground truth."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from detector.common.text_files import read_text
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError
from detector.evaluation.matching import Found, columns
from detector.formats import coco, ilsvrc, native, voc
from detector.formats.ilsvrc import class_numbers
from detector.formats.records import Entry


@dataclass(frozen=True)
class Unmatched:
    """What of a file of detections, and of a ground truth, has no counterpart in the other.

    Args:
        images: Images of the ground truth that the file does not mention.
        entries: Images of the file that the ground truth does not have.
        classes: Classes of detections in common images that the ground truth does not have.
        detections: Number of the detections that are left out for these reasons.
    """

    images: tuple[str, ...]
    entries: tuple[str, ...]
    classes: tuple[str, ...]
    detections: int

    def to_json(self) -> dict[str, Any]:
        """Return numbers, and the first name of each kind, as JSON values."""
        return {
            "images": len(self.images),
            "first_image": self.images[0] if self.images else None,
            "entries": len(self.entries),
            "first_entry": self.entries[0] if self.entries else None,
            "classes": list(self.classes),
            "detections": self.detections,
        }


class Detections(NamedTuple):
    """The content of a file of detections."""

    found: Found
    classes: Sequence[str] | None = None
    """The classes that the detector knows, if the file lists them."""
    unmatched: Unmatched | None = None
    """What has no counterpart in the ground truth. None for formats that do not list all images."""


def read(path: Path, truth: GroundTruth) -> Detections:
    """Read detections from our JSON, COCO results, or a folder of VOC's text files.

    COCO results name images and classes by the ids of the ground truth. Detections on other images
    or of other classes are left out in our JSON, and are an error in the other formats.

    Raises:
        FormatError: A line or an item is wrong, or no image is one of the ground truth. The message
            names it and the file.
    """
    labels = {name: label for label, name in enumerate(truth.classes)}
    if path.is_dir():
        files = [image.file for image in truth.images]
        return Detections(columns(voc.read(path, files, labels)))
    if _first_character(path) == "[":
        return Detections(_from_results(path, truth))
    return _from_native(path, truth, labels)


def read_submission(path: Path, truth: GroundTruth) -> Detections:
    """Read detections with inclusive boxes, as ILSVRC has them.

    The file is a submission in ILSVRC's format, our JSON, or COCO results.

    Raises:
        FormatError: A line or an item is wrong, or no image is one of the ground truth. The message
            names it and the file.
    """
    start = _first_character(path)
    if start == "{":
        labels = {name: number - 1 for name, number in class_numbers().items()}
        detections = _from_native(path, truth, labels)
        return detections._replace(found=_inclusive(detections.found))
    if start == "[":
        return Detections(_inclusive(_from_results(path, truth)))
    numbers = [image.image_id or 0 for image in truth.images]
    return Detections(Found(*ilsvrc.read(path, numbers)))


def from_entries(
    entries: Sequence[Entry], images: Sequence[AnnotatedImage], labels: Mapping[str, int]
) -> tuple[Found, Unmatched]:
    """Return the detections of entries, and what has no counterpart.

    An image's entry is the one with its path, in any spelling. Otherwise it is the one with its
    file name, if no other image and no other entry has that name.
    """
    matches = _match(entries, images)
    rows: list[tuple[float, ...]] = []
    unknown: Counter[str] = Counter()
    for position, entry in matches.items():
        for label, score, box in entry.detections:
            if label in labels:
                rows.append((position, labels[label], score, *box))
            else:
                unknown[label] += 1

    used = {id(entry) for entry in matches.values()}
    others = [entry for entry in entries if id(entry) not in used]
    unmatched = Unmatched(
        tuple(image.file for n, image in enumerate(images) if n not in matches),
        tuple(entry.file for entry in others),
        tuple(sorted(unknown)),
        unknown.total() + sum(len(entry.detections) for entry in others),
    )
    return columns(rows), unmatched


def _match(entries: Sequence[Entry], images: Sequence[AnnotatedImage]) -> dict[int, Entry]:
    """Return the entries of images by the position of the image."""
    by_path = {_plain(entry.file): entry for entry in entries}
    by_path |= {entry.file: entry for entry in entries}  # a name may have a backslash on purpose

    entry_names = Counter(_name(entry.file) for entry in entries)
    image_names = Counter(_name(image.file) for image in images)
    by_name = {_name(entry.file): entry for entry in entries}

    matches: dict[int, Entry] = {}
    for position, image in enumerate(images):
        name = _name(image.file)
        is_unique = entry_names[name] == 1 and image_names[name] == 1
        entry = by_path.get(image.file) or by_path.get(_plain(image.file))
        if entry is None and is_unique:
            entry = by_name[name]
        if entry is not None:
            matches[position] = entry
    return matches


def _plain(file: str) -> str:
    """Return a path in its plainest spelling, with slashes."""
    return posixpath.normpath(file.replace("\\", "/"))


def _name(file: str) -> str:
    return posixpath.basename(_plain(file))


def _from_native(path: Path, truth: GroundTruth, labels: Mapping[str, int]) -> Detections:
    """Read our JSON.

    Raises:
        FormatError: It is wrong, has two spellings of one image, or none of the ground truth's.
    """
    classes, entries = native.read(path)
    seen: dict[str, str] = {}
    for entry in entries:
        first = seen.setdefault(_plain(entry.file), entry.file)
        if first != entry.file:
            raise FormatError(path, f"{first} and {entry.file} are the same image")

    found, unmatched = from_entries(entries, truth.images, labels)
    if entries and truth.images and len(unmatched.images) == len(truth.images):
        raise FormatError(
            path,
            f"none of its images, such as {entries[0].file}, is one of the ground truth, such as "
            f"{truth.images[0].file}",
        )
    return Detections(found, classes, unmatched)


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


def _first_character(path: Path) -> str:
    """Return the first character of a file that is not blank."""
    return read_text(path, errors="replace").lstrip()[:1]

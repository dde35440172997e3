"""Detections in any format, as columns beside a ground truth."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from detector.common.json_fields import short
from detector.common.json_files import decode_json, read_json
from detector.common.text_files import decode_text, read_bytes
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError
from detector.evaluation.matching import Found, columns
from detector.formats import coco, ilsvrc, native, voc
from detector.formats.ilsvrc import class_numbers
from detector.formats.image_names import SPELLINGS, base_name, plain
from detector.formats.records import Entry


@dataclass(frozen=True)
class Unmatched:
    """What of a file of detections, and of a ground truth, has no counterpart in the other.

    Args:
        images: Images of the ground truth that the file does not mention.
        entries: Images of the file that the ground truth does not have.
        classes: Classes of detections in common images that the ground truth does not have.
        detections: Number of the detections that are left out for these reasons.
        missing_classes: Classes with objects in the ground truth that the file does not know.
        resized: Images whose size in the file is not that in the ground truth.
        moved: Images, and those of the file that are taken for them, in different folders.
    """

    images: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    detections: int = 0
    missing_classes: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()

    @property
    def may_lower_scores(self) -> bool:
        """Whether objects of the ground truth may be missed because of it."""
        return bool(self.images or self.missing_classes or self.resized)

    def to_json(self) -> dict[str, Any]:
        """Return numbers, and the first name of each kind, as JSON values."""
        return {
            "images": len(self.images),
            "first_image": self.images[0] if self.images else None,
            "entries": len(self.entries),
            "first_entry": self.entries[0] if self.entries else None,
            "classes": list(self.classes),
            "detections": self.detections,
            "missing_classes": list(self.missing_classes),
            "resized": len(self.resized),
            "first_resized": self.resized[0] if self.resized else None,
            "moved": len(self.moved),
            "first_moved": list(self.moved[0]) if self.moved else None,
        }


class Detections(NamedTuple):
    """The content of a file of detections."""

    found: Found
    classes: Sequence[str] | None = None
    """The classes that the detector knows, if the file lists them."""
    unmatched: Unmatched | None = None
    """What has no counterpart in the ground truth. None for formats that list neither images nor
    classes without detections."""


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
        rows = voc.read(path, files, labels)
        missing = _missing_classes(truth, labels, voc.find_files(path, labels))
        return Detections(columns(rows), unmatched=Unmatched(missing_classes=missing))
    content = read_json(path)
    if isinstance(content, list):
        return Detections(_from_results(path, content, truth))
    return _from_native(path, content, truth, labels)


def read_submission(path: Path, truth: GroundTruth) -> Detections:
    """Read detections with inclusive boxes, as ILSVRC has them.

    The file is a submission in ILSVRC's format, our JSON, or COCO results.

    Raises:
        FormatError: A line or an item is wrong, or no image is one of the ground truth. The message
            names it and the file.
    """
    data = read_bytes(path)
    start = decode_text(path, data[:1024], errors="replace").lstrip()[:1]
    if start == "{":
        labels = {name: number - 1 for name, number in class_numbers().items()}
        detections = _from_native(path, decode_json(path, data), truth, labels)
        return detections._replace(found=_inclusive(detections.found))
    if start == "[":
        return Detections(_inclusive(_from_results(path, decode_json(path, data), truth)))
    numbers = [image.image_id or 0 for image in truth.images]
    return Detections(Found(*ilsvrc.parse(path, data, numbers)))


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
    pairs = [(images[position], entry) for position, entry in sorted(matches.items())]
    unmatched = Unmatched(
        images=tuple(image.file for n, image in enumerate(images) if n not in matches),
        entries=tuple(entry.file for entry in others),
        classes=tuple(sorted(unknown)),
        detections=unknown.total() + sum(len(entry.detections) for entry in others),
        resized=tuple(
            image.file
            for image, entry in pairs
            if (image.width, image.height) != (entry.width, entry.height)
        ),
        moved=tuple(
            (image.file, entry.file)
            for image, entry in pairs
            if not _is_tail(image.file, entry.file) and not _is_tail(entry.file, image.file)
        ),
    )
    return columns(rows), unmatched


def _match(entries: Sequence[Entry], images: Sequence[AnnotatedImage]) -> dict[int, Entry]:
    """Return the entries of images by the position of the image."""
    matches: dict[int, Entry] = {}
    used: set[int] = set()
    for spell in SPELLINGS:
        entry_counts = Counter(spell(entry.file) for entry in entries)
        image_counts = Counter(spell(image.file) for image in images)
        by_name = {spell(entry.file): entry for entry in entries}
        for position, image in enumerate(images):
            name = spell(image.file)
            is_unique = entry_counts[name] == 1 and image_counts[name] == 1
            if is_unique and position not in matches and id(by_name[name]) not in used:
                matches[position] = by_name[name]
                used.add(id(by_name[name]))
    return matches


def _is_tail(path: str, other: str) -> bool:
    """Return whether a path is the end of another one."""
    return f"/{plain(other)}".endswith(f"/{plain(path).lstrip('/')}")


def _missing_classes(
    truth: GroundTruth, labels: Mapping[str, int], known: Collection[str]
) -> tuple[str, ...]:
    """Return the classes with objects in a ground truth that are not known.

    Args:
        truth: The ground truth.
        labels: Its labels, by all names that a class may have.
        known: Names of known classes.
    """
    known_labels = {labels[name] for name in known if name in labels}
    used = truth.classes_with_objects
    return tuple(
        name
        for label, name in enumerate(truth.classes)
        if name in used and label not in known_labels
    )


def _from_native(
    path: Path, content: Any, truth: GroundTruth, labels: Mapping[str, int]
) -> Detections:
    """Return the detections of our JSON.

    Raises:
        FormatError: It is wrong, has two spellings of one image, or none of the ground truth's.
    """
    classes, entries = native.parse(path, content)
    names = {image.file for image in truth.images}
    seen: dict[str, str] = {}
    for entry in entries:
        first = seen.setdefault(plain(entry.file), entry.file)
        if first != entry.file and not names.issuperset((first, entry.file)):
            raise FormatError(path, f"{first} and {entry.file} are the same image")

    found, unmatched = from_entries(entries, truth.images, labels)
    if entries and truth.images and len(unmatched.images) == len(truth.images):
        raise FormatError(
            path,
            f"none of its images, such as {entries[0].file}, is one of the ground truth, such as "
            f"{truth.images[0].file}",
        )
    known = {*classes, *(item.label for entry in entries for item in entry.detections)}
    missing = _missing_classes(truth, labels, known)
    return Detections(found, classes, replace(unmatched, missing_classes=missing))


def _from_results(path: Path, content: Any, truth: GroundTruth) -> Found:
    """Return the detections of COCO results.

    Raises:
        FormatError: An item is wrong, or its `file_name`, which this program writes, is not that of
            the image with its id.
    """
    positions = {image.image_id: position for position, image in enumerate(truth.images)}
    by_path = {plain(image.file): position for position, image in enumerate(truth.images)}
    labels = {number: label for label, number in enumerate(truth.classes.values())}

    rows = []
    for index, result in enumerate(coco.parse(path, content)):
        image_id, category_id, score, (x, y, w, h) = result
        if image_id not in positions:
            raise FormatError(path, f"[{index}]: the ground truth has no image_id {image_id}")
        if category_id not in labels:
            raise FormatError(path, f"[{index}]: the ground truth has no category_id {category_id}")

        position = positions[image_id]
        file = content[index].get("file_name")
        if isinstance(file, str):
            expected = truth.images[position].file
            is_other = by_path.get(plain(file), position) != position
            if is_other or _stem(file) != _stem(expected):
                raise FormatError(
                    path,
                    f"[{index}]: file_name is {short(file)}, but image_id {image_id} of the ground "
                    f"truth is {short(expected)}",
                )
        rows.append((position, labels[category_id], score, x, y, x + w, y + h))
    return columns(rows)


def _stem(file: str) -> str:
    return posixpath.splitext(base_name(file))[0]


def _inclusive(found: Found) -> Found:
    return found._replace(boxes=found.boxes - [0, 0, 1, 1])

"""Detections in YOLO's text files: one for each image, with lines `class x y width height score`.

Classes count from 0. x and y are the centre of the box. x and width are fractions of the image's
width, y and height are fractions of its height.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from detector.common.atomic_io import atomic_write
from detector.datasets.ground_truth import is_in_folder
from detector.errors import FormatError
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header
from detector.results import Detection

CLASSES = "classes.txt"
"""Name of the file with the names of the classes, one in a line."""


def files(images: Iterable[str], classes: Sequence[str]) -> list[Path]:
    """Return the paths of the files that `write` makes, relative to the output folder."""
    return [Path(CLASSES), *map(image_file, images)]


def image_file(image: str) -> Path:
    """Return the path of an image's text file, relative to the output folder."""
    return Path(image).with_suffix(".txt")


def check(images: Sequence[str], classes: Sequence[str], image_list: ImageList) -> None:
    """Check that each image has a text file of its own, inside the folder.

    Raises:
        FormatError: The image's name leads out of the folder, two images differ only in their
            suffix, or an image's text file would replace the list of classes or a folder.
    """
    seen = {Path(CLASSES): "the list of classes"}
    for image in images:
        if not is_in_folder(image):
            raise FormatError(image, "YOLO's file for it would be outside the folder of --out")
        path = image_file(image)
        if path in seen:
            raise FormatError(
                image, f"YOLO's file for it, {path}, is also the one for {seen[path]}"
            )
        seen[path] = image

    for image in images:
        for folder in image_file(image).parents:
            if folder in seen:
                raise FormatError(
                    image, f"YOLO's folder for it, {folder}, is the file for {seen[folder]}"
                )


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write a text file for each image, and `classes.txt`, into the folder `path`.

    The images must have passed `check`. The file of an image without detections is empty.
    """
    class_indices = {name: index for index, name in enumerate(header.classes)}
    with atomic_write(path / CLASSES) as file:
        file.write("".join(f"{name}\n" for name in header.classes).encode())

    for record in records:
        if isinstance(record, Failure):
            continue
        with atomic_write(path / image_file(record.file)) as file:
            for detection in record.detections:
                line = _make_line(detection, record.width, record.height, class_indices)
                file.write(line.encode())


def _make_line(
    detection: Detection, width: int, height: int, class_indices: Mapping[str, int]
) -> str:
    """Return the line of a detection in an image of `width` x `height` pixels."""
    label, score, (x1, y1, x2, y2) = detection
    x = (x1 + x2) / 2 / width
    y = (y1 + y2) / 2 / height
    box_width = (x2 - x1) / width
    box_height = (y2 - y1) / height
    box = f"{x:.6f} {y:.6f} {box_width:.6f} {box_height:.6f}"
    return f"{class_indices[label]} {box} {score:.6f}\n"

"""YOLO's text files: one an image, `class x y width height score` a line.

The class counts from 0; x and y are the box's centre; all four are shares of the image's sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from detector.common.atomic_io import atomic_write
from detector.errors import FormatError
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header

CLASSES = "classes.txt"


def file_of(image: str) -> Path:
    """The file of an image."""
    return Path(image).with_suffix(".txt")


def check(images: Sequence[str], classes: Sequence[str], image_list: ImageList) -> None:
    """Look at the images' names.

    Raises:
        FormatError: two images differ in their suffix alone, or one is called as the classes' file.
    """
    seen = {Path(CLASSES): "the list of classes"}
    for file in images:
        target = file_of(file)
        if target in seen:
            raise FormatError(file, f"YOLO's file for it is also that for {seen[target]}")
        seen[target] = file


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write a file for each image, also an empty one, and `classes.txt` into the folder `path`.

    The images must pass `check`.
    """
    numbers = {name: number for number, name in enumerate(header.classes)}
    with atomic_write(path / CLASSES) as file:
        file.write("".join(f"{name}\n" for name in header.classes).encode())
    for record in records:
        if isinstance(record, Failure):
            continue
        with atomic_write(path / file_of(record.file)) as file:
            for label, score, (x1, y1, x2, y2) in record.detections:
                x, width = (x1 + x2) / 2 / record.width, (x2 - x1) / record.width
                y, height = (y1 + y2) / 2 / record.height, (y2 - y1) / record.height
                line = f"{numbers[label]} {x:.6f} {y:.6f} {width:.6f} {height:.6f} {score:.6f}\n"
                file.write(line.encode())

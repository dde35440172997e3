"""YOLO's text files: one an image, `class x y width height score` a line.

The class counts from 0; x and y are the box's centre; all four are shares of the image's sides.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from detector.errors import FormatError
from detector.formats.files import replacing
from detector.formats.image_lists import ImageList
from detector.formats.native import Entry, Failure, Header


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write a file for each image, also an empty one, and `classes.txt` into the folder `path`.

    Raises:
        FormatError: two images differ in their suffix alone.
    """
    numbers = {name: number for number, name in enumerate(header.classes)}
    with replacing(path / "classes.txt") as file:
        file.write("".join(f"{name}\n" for name in header.classes).encode())
    seen: dict[Path, str] = {}
    for record in records:
        if isinstance(record, Failure):
            continue
        target = path / Path(record.file).with_suffix(".txt")
        if target in seen or target == path / "classes.txt":
            other = seen.get(target, "the list of classes")
            raise FormatError(record.file, f"YOLO's file for it is also that for {other}")
        seen[target] = record.file
        with replacing(target) as file:
            for label, score, (x1, y1, x2, y2) in record.detections:
                x, width = (x1 + x2) / 2 / record.width, (x2 - x1) / record.width
                y, height = (y1 + y2) / 2 / record.height, (y2 - y1) / record.height
                line = f"{numbers[label]} {x:.6f} {y:.6f} {width:.6f} {height:.6f} {score:.6f}\n"
                file.write(line.encode())

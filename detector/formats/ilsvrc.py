"""An ILSVRC DET submission: `image class score x1 y1 x2 y2` a line.

The image is its number in the list, the class its number among the 200, pixels count from 0 and
the last one is inclusive.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from detector.errors import SettingsError
from detector.formats.files import replacing
from detector.formats.image_lists import ImageList
from detector.formats.native import Entry, Failure, Header

CLASSES = Path(__file__).parent.parent / "datasets" / "det_classes.csv"


def check(images: Sequence[str], classes: Sequence[str], image_list: ImageList) -> None:
    """Look up all that is to be written.

    Raises:
        SettingsError: DET has none of the classes.
        FormatError: the image list lacks an image.
    """
    image_list.check(images)
    if not class_numbers().keys() & set(classes):
        raise SettingsError(
            f"none of the bundle's classes ({', '.join(classes)}) is one of ILSVRC DET's 200"
        )


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write a submission. Classes that DET has not are left out.

    Raises:
        FormatError: the image list lacks an image.
    """
    numbers = class_numbers()
    with replacing(path) as file:
        for record in records:
            if isinstance(record, Failure):
                continue
            image = image_list.image(record.file)
            for label, score, (x1, y1, x2, y2) in record.detections:
                if label in numbers:
                    corners = f"{x1:g} {y1:g} {x2 - 1:g} {y2 - 1:g}"
                    file.write(f"{image} {numbers[label]} {score:.6f} {corners}\n".encode())


@cache
def class_numbers() -> Mapping[str, int]:
    """DET's number by a class's name or synset, or by what VOC or COCO call the same class."""
    numbers: dict[str, int] = {}
    with open(CLASSES, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["relation"] == "exact":
            numbers |= {name: int(row["det_id"]) for name in (row["coco80"], row["voc20"]) if name}
    for row in rows:
        numbers |= {name: int(row["det_id"]) for name in (row["wnid"], row["det_name"])}
    return numbers

"""COCO's list of results: `[{"image_id", "category_id", "bbox": [x, y, w, h], "score"}]`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from detector.common.atomic_io import atomic_write, encode, read_json
from detector.errors import FormatError
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header


def check(images: Sequence[str], classes: Sequence[str], image_list: ImageList) -> None:
    """Look up all that is to be written.

    Raises:
        FormatError: the image list lacks an image or a class.
    """
    image_list.check(images)
    for name in classes:
        if image_list.classes and name not in image_list.classes:
            raise FormatError(image_list.source, f"has no category {name}")


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write a file of results, one a line; each also names its file.

    Category ids are the image list's, or else count the bundle's classes from 1.

    Raises:
        FormatError: the image list lacks an image or a class.
    """
    categories = image_list.classes or {
        name: number for number, name in enumerate(header.classes, start=1)
    }
    separator = b"[\n"
    with atomic_write(path) as file:
        for record in records:
            if isinstance(record, Failure):
                continue
            image_id = image_list.image(record.file)
            for label, score, (x1, y1, x2, y2) in record.detections:
                if label not in categories:
                    raise FormatError(image_list.source, f"has no category {label}")
                result = {
                    "image_id": image_id,
                    "category_id": categories[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                    "file_name": record.file,
                }
                file.write(separator + encode(result))
                separator = b",\n"
        file.write(b"\n]\n" if separator == b",\n" else b"[]\n")


class Result(NamedTuple):
    """A detection; the box is x, y, width and height in pixels."""

    image_id: int
    category_id: int
    score: float
    box: tuple[float, float, float, float]


def read(path: Path) -> list[Result]:
    """The results of a file.

    Raises:
        FormatError: it is missing, not a list, or an item is not a result or has no finite numbers.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise FormatError(path, "must be a list of results")
    results = []
    for index, item in enumerate(content):
        try:
            image, category, score = item["image_id"], item["category_id"], float(item["score"])
            x, y, w, h = map(float, item["bbox"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(
                path, f"[{index}]: needs image_id, category_id, bbox and score ({error!r})"
            ) from error
        if not (isinstance(image, int) and isinstance(category, int)):
            raise FormatError(path, f"[{index}]: image_id and category_id must be whole numbers")
        if not all(map(math.isfinite, (score, x, y, w, h))):
            raise FormatError(path, f"[{index}]: score and bbox must be finite numbers")
        results.append(Result(image, category, score, (x, y, w, h)))
    return results

"""COCO's list of results: `[{"image_id", "category_id", "bbox": [x, y, w, h], "score"}]`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detector.common.atomic_io import atomic_write
from detector.common.json_fields import are_finite, are_numbers, is_number, is_whole, short
from detector.common.json_files import encode, read_json
from detector.errors import FormatError
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header
from detector.results import Detection


class CocoResult(NamedTuple):
    """A detection as COCO's results have it.

    `box` is x, y, width and height in pixels.
    """

    image_id: int
    category_id: int
    score: float
    box: tuple[float, float, float, float]


def check(images: Sequence[str], classes: Sequence[str], image_list: ImageList) -> None:
    """Check that every image and every class has an id.

    Raises:
        FormatError: The image list lacks an image or a class.
    """
    image_list.check(images)
    for name in classes:
        if image_list.class_ids and name not in image_list.class_ids:
            raise FormatError(image_list.source, f"has no category {name}")


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write detections, one in a line; see `detector.formats.Format`.

    Category ids are those of the image list. If it has none, the bundle's classes are counted
    from 1. Each result also has the image's name as "file_name".

    Raises:
        FormatError: The image list lacks an image or a class.
    """
    category_ids = image_list.class_ids or {
        name: number for number, name in enumerate(header.classes, start=1)
    }

    separator = b"[\n"
    with atomic_write(path) as file:
        for record in records:
            if isinstance(record, Failure):
                continue
            image_id = image_list.image_id(record.file)
            for detection in record.detections:
                if detection.label not in category_ids:
                    raise FormatError(image_list.source, f"has no category {detection.label}")
                category_id = category_ids[detection.label]
                result = _result_to_json(detection, image_id, category_id, record.file)
                file.write(separator + encode(result))
                separator = b",\n"
        is_empty = separator == b"[\n"
        file.write(b"[]\n" if is_empty else b"\n]\n")


def read(path: Path) -> list[CocoResult]:
    """Read a file of results.

    Raises:
        FormatError: The file is missing or is not a list, or an item is not a result, or has a
            number that is not finite or a box that ends before it begins.
    """
    return parse(path, read_json(path))


def parse(path: Path, content: Any) -> list[CocoResult]:
    """Return what the JSON of a file of results says; see `read`."""
    if not isinstance(content, list):
        raise FormatError(path, "must be a list of results")
    return [_result_from_json(path, index, item) for index, item in enumerate(content)]


def _result_to_json(
    detection: Detection, image_id: int, category_id: int, file_name: str
) -> dict[str, Any]:
    x1, y1, x2, y2 = detection.box
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "score": detection.score,
        "file_name": file_name,
    }


def _result_from_json(path: Path, index: int, item: Any) -> CocoResult:
    """Return an item of a file's list.

    Args:
        path: The file, for the error.
        index: Index of the item, for the error.
        item: The item, which may be any JSON value.

    Raises:
        FormatError: The item is not a result.
    """
    if not isinstance(item, dict) or not item.keys() >= {
        "image_id",
        "category_id",
        "bbox",
        "score",
    }:
        raise FormatError(path, f"[{index}]: needs image_id, category_id, bbox and score")
    image_id = item["image_id"]
    category_id = item["category_id"]
    score = item["score"]
    box = item["bbox"]

    if not (is_whole(image_id) and is_whole(category_id)):
        raise FormatError(
            path,
            f"[{index}]: image_id and category_id must be whole numbers, not "
            f"{short(image_id)} and {short(category_id)}",
        )
    if not (is_number(score) and are_numbers(box, 4)):
        raise FormatError(
            path, f"[{index}]: score {short(score)} and bbox {short(box)} must be numbers"
        )
    if not are_finite([score, *box]):
        raise FormatError(path, f"[{index}]: score and bbox must be finite numbers")
    if box[2] < 0 or box[3] < 0:
        raise FormatError(path, f"[{index}]: bbox {short(box)} has a width or height below 0")
    x, y, width, height = map(float, box)
    return CocoResult(image_id, category_id, float(score), (x, y, width, height))

"""Ground truth in COCO's format, with VOC's `difficult` as an additional key of annotations.

Crowds count as difficult objects. Only COCO's own rule, in `detector.evaluation.coco`, treats them
in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detector.common.json_fields import are_numbers, is_number, is_whole, short
from detector.common.json_files import read_json
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth, check_name
from detector.errors import FormatError

LARGEST_NUMBER = 1e6
"""Largest number of pixels in a box or an image's side. It is more than any image has."""


def read(path: Path, *, empty_boxes: bool = False) -> GroundTruth:
    """Read the ground truth of an annotation file.

    Args:
        path: The file.
        empty_boxes: Whether boxes may lack width or height.

    Raises:
        FormatError: The file cannot be read, or an item is wrong; the error names the first one.
    """
    return make_ground_truth(read_content(path, empty_boxes=empty_boxes))


def read_content(path: Path, *, empty_boxes: bool = False) -> dict[str, Any]:
    """Read the JSON of an annotation file, and check its images, annotations and categories.

    Args:
        path: The file.
        empty_boxes: Whether boxes may lack width or height.

    Raises:
        FormatError: The file cannot be read, or an item is wrong; the error names the first one.
    """
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise FormatError(path, f'not a COCO annotation file: needs a list "{key}"')

    for key, check in (("images", _check_image), ("categories", _check_category)):
        for index, item in enumerate(content[key]):
            _check(path, f"{key}[{index}]", check, item)
    _check_distinct(path, "categories", content["categories"], ("id", "name"))
    _check_distinct(path, "images", content["images"], ("id", "file_name"))

    image_ids = {item["id"] for item in content["images"]}
    category_ids = {item["id"] for item in content["categories"]}
    check_annotation = partial(_check_annotation, empty_boxes=empty_boxes)
    for index, item in enumerate(content["annotations"]):
        location = f"annotations[{index}]"
        _check(path, location, check_annotation, item)
        for key, known in (("image_id", image_ids), ("category_id", category_ids)):
            if item[key] not in known:
                raise FormatError(path, f"{location}: unknown {key} {short(item[key])}")
    return dict(content)


def make_ground_truth(content: dict[str, Any]) -> GroundTruth:
    """Make the ground truth of JSON that `read_content` has returned.

    Classes are sorted by id; images and their objects keep their order.
    """
    categories = sorted((item["id"], item["name"]) for item in content["categories"])
    labels = {category_id: label for label, (category_id, _) in enumerate(categories)}

    annotations: dict[int, list[dict[str, Any]]] = {item["id"]: [] for item in content["images"]}
    for item in content["annotations"]:
        annotations[item["image_id"]].append(item)

    images = [_make_image(item, annotations[item["id"]], labels) for item in content["images"]]
    return GroundTruth({name: category_id for category_id, name in categories}, tuple(images))


def flag(item: Mapping[str, Any], key: str) -> bool:
    """Return a flag of an annotation, which is 0 or 1; without it, or if it is null, it is 0.

    Raises:
        ValueError: It is something else, such as a text.
    """
    value = item.get(key)
    if value is None:
        return False
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    raise ValueError(f"{key} is {short(value)}, but must be the number 0 or 1")


def area(item: Mapping[str, Any]) -> float:
    """Return the area of an annotation; without it, or if it is null, that of its box.

    Raises:
        ValueError: It is not a number from 0 on.
    """
    value = item.get("area")
    if value is None:
        return float(item["bbox"][2] * item["bbox"][3])
    if not is_number(value) or not 0 <= value <= LARGEST_NUMBER**2:
        raise ValueError(f"area is {short(value)}, but must be a number from 0 on")
    return float(value)


def _check(path: Path, location: str, check: Callable[[dict[str, Any]], None], item: Any) -> None:
    """Check an item of a list of the file.

    Raises:
        FormatError: The item is wrong.
    """
    if not isinstance(item, dict):
        raise FormatError(path, f"{location}: must be an object, not {short(item)}")
    try:
        check(item)
    except ValueError as error:
        raise FormatError(path, f"{location}: {error}") from error


def _check_image(item: dict[str, Any]) -> None:
    _check_image_id(item, "id")
    _check_text(item, "file_name")
    for key in ("width", "height"):
        value = _require(item, key)
        if not is_whole(value) or not 0 < value <= LARGEST_NUMBER:
            raise ValueError(f"{key} is {short(value)}, but must be a whole number of pixels")


def _check_category(item: dict[str, Any]) -> None:
    _check_category_id(item, "id")
    _check_text(item, "name")
    check_name(item["name"])


def _check_annotation(item: dict[str, Any], *, empty_boxes: bool) -> None:
    _check_image_id(item, "image_id")
    _check_category_id(item, "category_id")
    box = _require(item, "bbox")
    if not are_numbers(box, 4):
        raise ValueError(f"bbox is {short(box)}, but must be four numbers: x, y, width, height")
    if not all(abs(number) <= LARGEST_NUMBER for number in box):  # not NaN either
        raise ValueError(f"bbox is {short(box)}, but must have numbers of pixels")
    x, y, width, height = np.array(box, np.float32)
    has_area = x + width > x and y + height > y  # as float32, in which boxes are kept
    if not has_area and not empty_boxes:
        raise ValueError(f"bbox {short(box)} must have a width and a height")
    for key in ("difficult", "iscrowd", "ignore"):
        flag(item, key)
    area(item)


def _check_image_id(item: dict[str, Any], key: str) -> None:
    value = _require(item, key)
    if not isinstance(value, str) and not is_whole(value):
        raise ValueError(f"{key} is {short(value)}, but must be a whole number or a text")


def _check_category_id(item: dict[str, Any], key: str) -> None:
    value = _require(item, key)
    if not is_whole(value):
        raise ValueError(f"{key} is {short(value)}, but must be a whole number")


def _check_text(item: dict[str, Any], key: str) -> None:
    value = _require(item, key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} is {short(value)}, but must be a text")


def _check_distinct(
    path: Path, what: str, items: Sequence[dict[str, Any]], keys: Iterable[str]
) -> None:
    """Check that no two items of a list have the same value of a key."""
    for key in keys:
        seen: dict[Any, int] = {}
        for index, item in enumerate(items):
            first = seen.setdefault(item[key], index)
            if first != index:
                raise FormatError(
                    path,
                    f"{what}[{index}]: has the same {key} as {what}[{first}]: {short(item[key])}",
                )


def _require(item: dict[str, Any], key: str) -> Any:
    if key not in item:
        raise ValueError(f"lacks {key}")
    return item[key]


def _make_image(
    image: dict[str, Any], annotations: list[dict[str, Any]], labels: dict[int, int]
) -> AnnotatedImage:
    """Make an annotated image from its JSON and the JSON of its annotations."""
    boxes = np.array([item["bbox"] for item in annotations], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # width and height to x2 and y2
    difficult = [flag(item, "difficult") or flag(item, "iscrowd") for item in annotations]
    return AnnotatedImage(
        image["file_name"],
        image["width"],
        image["height"],
        boxes,
        labels=np.array([labels[item["category_id"]] for item in annotations], np.int64),
        difficult=np.array(difficult, np.bool_),
        image_id=image["id"] if is_whole(image["id"]) else None,
    )

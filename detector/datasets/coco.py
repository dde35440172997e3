"""Ground truth in COCO's format, with VOC's `difficult` as an additional key of annotations.

Crowds count as difficult objects. Only COCO's own rule, in `detector.evaluation.coco`, treats them
in another way.
"""

from __future__ import annotations

import math
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from detector.common.json_files import read_json
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError


def read(path: Path) -> GroundTruth:
    """Read the ground truth of an annotation file.

    Raises:
        FormatError: The file cannot be read, or an item is wrong; the error names the first one.
    """
    return make_ground_truth(path, read_content(path))


def read_content(path: Path) -> dict[str, Any]:
    """Read the JSON of an annotation file, and check its images, annotations and categories.

    Raises:
        FormatError: The file cannot be read, or an item is wrong; the error names the first one.
    """
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise FormatError(path, f'not a COCO annotation file: needs a list "{key}"')

    try:
        category_names = {item["id"]: item["name"] for item in content["categories"]}
        image_ids = {item["id"] for item in content["images"]}
        distinct_names = set(category_names.values())
        sorted(category_names)  # raises TypeError if the ids cannot be ordered
    except (KeyError, TypeError) as error:
        raise FormatError(
            path, f"each image needs an id, each category an id and a name ({error!r})"
        ) from error

    if not len(distinct_names) == len(category_names) == len(content["categories"]):
        raise FormatError(path, "two categories have the same id or name")
    if len(image_ids) != len(content["images"]):
        raise FormatError(path, "two images have the same id")
    for index, item in enumerate(content["annotations"]):
        _check_annotation(path, index, item, image_ids, category_names)
    return dict(content)


def make_ground_truth(path: Path, content: dict[str, Any]) -> GroundTruth:
    """Make the ground truth of JSON that `read_content` has returned.

    Args:
        path: The annotation file, for errors.
        content: Its JSON.

    Returns:
        The ground truth. Classes are sorted by id; images and their objects keep their order.

    Raises:
        FormatError: An image lacks its name or size.
    """
    categories = sorted((item["id"], item["name"]) for item in content["categories"])
    labels = {category_id: label for label, (category_id, _) in enumerate(categories)}

    annotations: dict[int, list[dict[str, Any]]] = {item["id"]: [] for item in content["images"]}
    for item in content["annotations"]:
        annotations[item["image_id"]].append(item)

    images = [
        _make_image(path, item, annotations[item["id"]], labels) for item in content["images"]
    ]
    return GroundTruth({name: category_id for category_id, name in categories}, tuple(images))


def _check_annotation(
    path: Path, index: int, item: Any, image_ids: Container[Any], category_ids: Container[Any]
) -> None:
    location = f"annotations[{index}]"
    try:
        if item["image_id"] not in image_ids:
            raise FormatError(path, f"{location}: unknown image_id {item['image_id']}")
        if item["category_id"] not in category_ids:
            raise FormatError(path, f"{location}: unknown category_id {item['category_id']}")
        x, y, width, height = map(float, item["bbox"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(
            path,
            f"{location}: needs image_id, category_id and bbox [x, y, width, height] ({error!r})",
        ) from error
    if not (width > 0 and height > 0 and math.isfinite(x + y + width + height)):
        raise FormatError(path, f"{location}: bbox {item['bbox']} must have a width and a height")


def _make_image(
    path: Path, image: dict[str, Any], annotations: list[dict[str, Any]], labels: dict[int, int]
) -> AnnotatedImage:
    """Make an annotated image from its JSON and the JSON of its annotations.

    Raises:
        FormatError: The image lacks its name or size.
    """
    image_id = image["id"]
    try:
        file = image["file_name"]
        width = image["width"]
        height = image["height"]
    except KeyError as error:
        raise FormatError(path, f"image {image_id} lacks {error}") from error
    if not (isinstance(file, str) and isinstance(width, int) and isinstance(height, int)):
        raise FormatError(
            path, f"image {image_id}: file_name must be a string, width and height whole numbers"
        )

    boxes = np.array([list(map(float, item["bbox"])) for item in annotations], np.float32)
    boxes = boxes.reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # width and height to x2 and y2
    difficult = [bool(item.get("difficult") or item.get("iscrowd")) for item in annotations]
    return AnnotatedImage(
        file,
        width,
        height,
        boxes,
        labels=np.array([labels[item["category_id"]] for item in annotations], np.int64),
        difficult=np.array(difficult, np.bool_),
        image_id=image_id if isinstance(image_id, int) else None,
    )

"""Ground truth in COCO's format, with VOC's `difficult` where it is given.

Crowds, which COCO's own rule treats in its own way, are difficult objects to all others.
"""

from __future__ import annotations

import math
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from detector.common.atomic_io import read_json
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError


def read(path: Path) -> GroundTruth:
    """The ground truth of an annotation file.

    Raises:
        FormatError: naming the file and the first item that is wrong.
    """
    return ground_truth(path, load(path))


def load(path: Path) -> dict[str, Any]:
    """The content of an annotation file: sound images, annotations and categories.

    Raises:
        FormatError: naming the file and the first item that is wrong.
    """
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise FormatError(path, f'not a COCO annotation file: needs a list "{key}"')
    try:
        labels = {item["id"]: item["name"] for item in content["categories"]}
        images = {item["id"] for item in content["images"]}
        names = set(labels.values())
        sorted(labels)  # they must have an order
    except (KeyError, TypeError) as error:
        raise FormatError(
            path, f"each image needs an id, each category an id and a name ({error!r})"
        ) from error
    if not len(names) == len(labels) == len(content["categories"]):
        raise FormatError(path, "two categories have the same id or name")
    if len(images) != len(content["images"]):
        raise FormatError(path, "two images have the same id")
    for number, item in enumerate(content["annotations"]):
        _check(path, f"annotations[{number}]", item, images, labels)
    return dict(content)


def ground_truth(path: Path, content: dict[str, Any]) -> GroundTruth:
    """The ground truth in the loaded content of a file.

    Raises:
        FormatError: an image lacks its name or size.
    """
    categories = sorted((item["id"], item["name"]) for item in content["categories"])
    label_of = {number: label for label, (number, _) in enumerate(categories)}
    by_image: dict[int, list[dict[str, Any]]] = {item["id"]: [] for item in content["images"]}
    for item in content["annotations"]:
        by_image[item["image_id"]].append(item)
    images = [_image(path, item, by_image[item["id"]], label_of) for item in content["images"]]
    return GroundTruth({name: number for number, name in categories}, tuple(images))


def _check(
    path: Path, where: str, item: Any, images: Container[Any], labels: Container[Any]
) -> None:
    try:
        if item["image_id"] not in images:
            raise FormatError(path, f"{where}: unknown image_id {item['image_id']}")
        if item["category_id"] not in labels:
            raise FormatError(path, f"{where}: unknown category_id {item['category_id']}")
        x, y, width, height = map(float, item["bbox"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(
            path, f"{where}: needs image_id, category_id and bbox [x, y, width, height] ({error!r})"
        ) from error
    if not (width > 0 and height > 0 and math.isfinite(x + y + width + height)):
        raise FormatError(path, f"{where}: bbox {item['bbox']} must have a width and a height")


def _image(
    path: Path, image: dict[str, Any], items: list[dict[str, Any]], label_of: dict[int, int]
) -> AnnotatedImage:
    sides = [list(map(float, item["bbox"])) for item in items]
    boxes = np.array(sides, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # x, y, width, height to corners
    try:
        file, width, height = image["file_name"], image["width"], image["height"]
    except KeyError as error:
        raise FormatError(path, f"image {image['id']} lacks {error}") from error
    if not (isinstance(file, str) and isinstance(width, int) and isinstance(height, int)):
        raise FormatError(
            path, f"image {image['id']}: file_name must be a text, width and height whole numbers"
        )
    return AnnotatedImage(
        file,
        width,
        height,
        boxes,
        np.array([label_of[item["category_id"]] for item in items], np.int64),
        np.array([bool(i.get("difficult") or i.get("iscrowd")) for i in items], np.bool_),
        image["id"] if isinstance(image["id"], int) else None,
    )

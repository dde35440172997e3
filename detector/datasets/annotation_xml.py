"""The XML files in which PASCAL VOC and ILSVRC annotate an image each, and their lists of names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from detector.datasets.ground_truth import AnnotatedImage
from detector.errors import FormatError
from proposals.types import Boxes

EDGES = ("xmin", "ymin", "xmax", "ymax")


class Annotation(NamedTuple):
    """What a file says; see `AnnotatedImage`."""

    path: Path
    file: str
    """The image's name as the file gives it, with or without a suffix."""
    width: int
    height: int
    names: tuple[str, ...]
    boxes: Boxes
    difficult: NDArray[np.bool_]
    places: tuple[int, ...]
    """Which of the file's objects these are."""

    def image(
        self, file: str, labels: Mapping[str, int], number: int | None = None
    ) -> AnnotatedImage:
        """The annotated image of that name and number.

        Raises:
            FormatError: an object's class is not among `labels`.
        """
        for place, name in zip(self.places, self.names, strict=True):
            if name not in labels:
                raise _object_error(self.path, place, f"unknown class {name!r}")
        indices = np.array([labels[name] for name in self.names], np.int64)
        return AnnotatedImage(
            file, self.width, self.height, self.boxes, indices, self.difficult, number
        )


def read(path: Path, *, first_pixel: int, skip_empty: bool = False) -> Annotation:
    """An annotation file.

    Args:
        first_pixel: what the format calls the first pixel of a row: 1 in VOC, 0 in ILSVRC. The
            last pixel of a box is part of it in both.
        skip_empty: leave out objects whose box has no area, instead of refusing them.

    Raises:
        FormatError: it is missing, not XML, or lacks a size or an object's class or box.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last: encodings
        raise FormatError(path, f"not XML: {error}") from error
    try:
        width, height = int(_number(root, "size/width")), int(_number(root, "size/height"))
    except ValueError as error:
        raise FormatError(path, str(error)) from error
    names, boxes, difficult, places = [], [], [], []
    for place, item in enumerate(root.findall("object")):
        try:
            name, box = _text(item, "name"), _box(item, first_pixel)
            if not (box[0] < box[2] and box[1] < box[3]):
                if skip_empty:
                    continue
                edges = (item.findtext(f"bndbox/{edge}") for edge in EDGES)
                raise ValueError(f"box {', '.join(map(str, edges))} has no area")
        except ValueError as error:
            raise _object_error(path, place, str(error)) from error
        names.append(name)
        boxes.append(box)
        difficult.append(item.findtext("difficult", "0").strip() == "1")
        places.append(place)
    return Annotation(
        path,
        root.findtext("filename", path.stem).strip(),
        width,
        height,
        tuple(names),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(difficult, np.bool_),
        tuple(places),
    )


def read_names(path: Path) -> list[str]:
    """The first word of each line of a list of images.

    Raises:
        FormatError: the list is missing, or has none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(path, f"the list of images cannot be read: {error}") from error
    names = [line.split()[0] for line in lines if line.strip()]
    if not names:
        raise FormatError(path, "lists no image")
    return names


def _box(item: ElementTree.Element, first_pixel: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (_number(item, f"bndbox/{edge}") for edge in EDGES)
    return x1 - first_pixel, y1 - first_pixel, x2 - first_pixel + 1, y2 - first_pixel + 1


def _text(element: ElementTree.Element, tag: str) -> str:
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise ValueError(f"lacks <{tag.replace('/', '><')}>")
    return text


def _number(element: ElementTree.Element, tag: str) -> float:
    text = _text(element, tag)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"<{tag.replace('/', '><')}> is {text!r}, not a number")
    return number


def _object_error(path: Path, place: int, message: str) -> FormatError:
    """An error about the object at this place, with its line, which ElementTree does not know."""
    lines: list[int] = []

    def start(tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "object":
            lines.append(parser.CurrentLineNumber)

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.Parse(path.read_bytes(), True)
    return FormatError(path, f"object {place + 1}: {message}", lines[place])

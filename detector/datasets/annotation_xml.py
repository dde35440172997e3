"""XML files of PASCAL VOC and ILSVRC, which annotate one image each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from detector.common.json_fields import short
from detector.common.text_files import read_bytes
from detector.datasets.ground_truth import AnnotatedImage, check_name
from detector.errors import FormatError

EDGES = ("xmin", "ymin", "xmax", "ymax")
"""Elements of `<bndbox>`, in the order of a box."""

LARGEST_NUMBER = 1e6
"""Largest number of pixels in a box or an image's side. It is more than any image has."""

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.ASCII | re.IGNORECASE)
"""A number. Python also reads `1_0` and `nan`, which other readers of VOC's files do not."""

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels, 0-based, with x2 and y2 exclusive."""


class AnnotatedObject(NamedTuple):
    """An object of an annotation file."""

    position: int
    """Position among the file's objects, from 0."""
    name: str
    """Name of the class."""
    box: Box
    difficult: bool


class Annotation(NamedTuple):
    """Content of an annotation file."""

    path: Path
    """The file."""
    file: str
    """Name of the image, as the file states it, with or without a suffix."""
    width: int
    """Width of the image in pixels."""
    height: int
    """Height of the image in pixels."""
    objects: tuple[AnnotatedObject, ...]

    def to_image(
        self, file: str, labels: Mapping[str, int], image_id: int | None = None
    ) -> AnnotatedImage:
        """Make the annotated image.

        Args:
            file: Name of the image, relative to the folder of images.
            labels: Labels of the classes by name.
            image_id: Id of the image in its data set.

        Raises:
            FormatError: An object's class is not among `labels`.
        """
        for item in self.objects:
            if item.name not in labels:
                raise _object_error(self.path, item.position, f"unknown class {item.name!r}")
        return AnnotatedImage(
            file,
            self.width,
            self.height,
            boxes=np.array([item.box for item in self.objects], np.float32).reshape(-1, 4),
            labels=np.array([labels[item.name] for item in self.objects], np.int64),
            difficult=np.array([item.difficult for item in self.objects], np.bool_),
            image_id=image_id,
        )


def read(path: Path, *, first_pixel: int, skip_empty: bool = False) -> Annotation:
    """Read an annotation file.

    Args:
        path: The file.
        first_pixel: Number of the first pixel of a row: 1 in VOC, 0 in ILSVRC. In both, xmax and
            ymax are inclusive.
        skip_empty: Leave out objects whose box has no area. By default they are an error.

    Raises:
        FormatError: The file is missing, is not XML, or lacks the image's size or an object's
            class or box, or has one of them twice.
    """
    root = _parse(path)
    try:
        width = _read_side(root, "size/width")
        height = _read_side(root, "size/height")
    except ValueError as error:
        raise FormatError(path, str(error)) from error

    objects = []
    for position, element in enumerate(root.findall("object")):
        try:
            item = _read_object(element, position, first_pixel)
            x1, y1, x2, y2 = item.box
            is_empty = x2 < x1 + 1 or y2 < y1 + 1  # xmax < xmin or ymax < ymin
            if is_empty and not skip_empty:
                edges = (element.findtext(f"bndbox/{edge}") for edge in EDGES)
                raise ValueError(f"box {', '.join(map(str, edges))} has no area")
        except ValueError as error:
            raise _object_error(path, position, str(error)) from error
        if not is_empty:
            objects.append(item)

    file = root.findtext("filename", path.stem).strip()
    return Annotation(path, file, width, height, tuple(objects))


def _parse(path: Path) -> ElementTree.Element:
    data = read_bytes(path)
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        # The parser raises ValueError and LookupError for encodings that it does not know.
        raise FormatError(path, f"not XML: {error}") from error


def _read_object(element: ElementTree.Element, position: int, first_pixel: int) -> AnnotatedObject:
    """Read an `<object>`.

    Raises:
        ValueError: It lacks its class or box, or has one of them twice.
    """
    name = check_name(_read_text(element, "name"))
    x1, y1, x2, y2 = (_read_number(element, f"bndbox/{edge}") for edge in EDGES)
    box = (x1 - first_pixel, y1 - first_pixel, x2 - first_pixel + 1, y2 - first_pixel + 1)
    difficult = _find_text(element, "difficult") or "0"
    if difficult not in ("0", "1"):
        raise ValueError(f"<difficult> is {short(difficult)}, but must be 0 or 1")
    return AnnotatedObject(position, name, box, difficult == "1")


def _read_text(element: ElementTree.Element, path: str) -> str:
    """Return the text of an element inside `element`, by a path such as `bndbox/xmin`.

    Raises:
        ValueError: It is missing or empty.
    """
    text = _find_text(element, path)
    if not text:
        raise ValueError(f"lacks {_in_brackets(path)}")
    return text


def _find_text(element: ElementTree.Element, path: str) -> str:
    """Return the text of an element inside `element`, or "" if it is missing.

    Raises:
        ValueError: There are two such elements, or the element has others in its text. Readers then
            differ in what they take.
    """
    found = element.findall(path)
    if not found:
        return ""
    if len(found) > 1:
        raise ValueError(f"has {_in_brackets(path)} {len(found)} times, but must have it once")
    if len(found[0]):
        raise ValueError(f"{_in_brackets(path)} must have text alone, not other elements")
    return (found[0].text or "").strip()


def _in_brackets(path: str) -> str:
    return f"<{path.replace('/', '><')}>"


def _read_number(element: ElementTree.Element, path: str) -> float:
    """Return the number in an element inside `element`.

    Raises:
        ValueError: It is missing, or is not a number of pixels.
    """
    text = _read_text(element, path)
    if not NUMBER.fullmatch(text) or abs(float(text)) > LARGEST_NUMBER:
        raise ValueError(f"{_in_brackets(path)} is {short(text)}, not a number of pixels")
    return float(text)


def _read_side(element: ElementTree.Element, path: str) -> int:
    """Return the length of an image's side, which is 0 where tools do not know it.

    Raises:
        ValueError: It is missing, or is not a whole number from 0 on.
    """
    number = _read_number(element, path)
    if number < 0 or not number.is_integer():
        raise ValueError(f"{_in_brackets(path)} is {number:g}, but must be a whole number from 0")
    return int(number)


def _object_error(path: Path, position: int, message: str) -> FormatError:
    """Make an error about an object that names its line.

    ElementTree does not keep lines, so the file is parsed again.
    """
    lines: list[int] = []

    def add_line(tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "object":
            lines.append(parser.CurrentLineNumber)

    parser = expat.ParserCreate()
    parser.StartElementHandler = add_line
    parser.Parse(read_bytes(path), True)
    return FormatError(path, f"object {position + 1}: {message}", lines[position])

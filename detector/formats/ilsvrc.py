"""Submissions to ILSVRC DET: text files with lines `image class score xmin ymin xmax ymax`.

The image is its number in the list of images, the class its number among the 200, both counted
from 1. Boxes are in pixels, 0-based, and xmax and ymax are inclusive. Fields are separated by
spaces; lines come in any order.
"""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.common.atomic_io import atomic_write
from detector.common.text_files import decode_text, parse_number, read_bytes
from detector.datasets.ilsvrc import det_classes
from detector.errors import FormatError, SettingsError
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header

logger = logging.getLogger(__name__)

CLASS_COUNT = 200
"""Number of classes of ILSVRC DET."""


class Submission(NamedTuple):
    """The D detections of a submission as columns, in the order of the file."""

    images: NDArray[np.int64]
    """`[D]`, positions in the list of images."""
    labels: NDArray[np.int64]
    """`[D]`, 0 for the first class."""
    scores: NDArray[np.float64]
    """`[D]`."""
    boxes: NDArray[np.float64]
    """`[D, 4]`, xmin, ymin, xmax, ymax in pixels, 0-based, inclusive, as the file has them: they
    are neither clipped nor rounded."""


def check(images: Sequence[str], classes: Sequence[str], image_list: ImageList) -> None:
    """Check that every image has an id and that DET has one of the classes.

    Raises:
        SettingsError: DET has none of the classes.
        FormatError: The image list lacks an image.
    """
    image_list.check(images)
    unknown = left_out(classes)
    if not class_numbers().keys() & set(classes):
        raise SettingsError(
            f"none of the bundle's classes ({', '.join(classes)}) is one of ILSVRC DET's 200"
        )
    if unknown:
        logger.warning(
            "warning: ILSVRC DET has no class for %d of the bundle's %d classes, whose detections "
            "are left out: %s",
            len(unknown),
            len(classes),
            ", ".join(unknown),
        )


def left_out(classes: Sequence[str]) -> list[str]:
    """Return the classes that DET lacks, whose detections `write` leaves out."""
    return [name for name in classes if name not in class_numbers()]


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write a submission; see `detector.formats.Format`. Classes that DET lacks are left out.

    Raises:
        FormatError: The image list lacks an image.
    """
    numbers = class_numbers()
    with atomic_write(path) as file:
        for record in records:
            if isinstance(record, Failure):
                continue
            image_id = image_list.image_id(record.file)
            for label, score, (x1, y1, x2, y2) in record.detections:
                if label in numbers:
                    corners = f"{x1:g} {y1:g} {x2 - 1:g} {y2 - 1:g}"
                    file.write(f"{image_id} {numbers[label]} {score:.6f} {corners}\n".encode())


def read(path: Path, images: Sequence[int]) -> Submission:
    """Read a submission.

    Args:
        path: The file.
        images: Numbers of the images, in the order of the list.

    Raises:
        FormatError: The file cannot be read, or a line is not seven finite numbers, or has an
            image that is not in the list or a class that is not one of the 200. The error names
            the first such line.
    """
    return parse(path, read_bytes(path), images)


def parse(path: Path, data: bytes, images: Sequence[int]) -> Submission:
    """Return what the bytes of a submission say; see `read`."""
    text = decode_text(path, data)
    try:
        columns = _load_columns(text.encode())
    except ValueError as error:
        raise _find_error(path, text, images) from error

    known = np.array(sorted(images), np.float64)
    if not _is_valid(columns, known):
        raise _find_error(path, text, images)
    if text and not text.endswith(("\n", "\r")):
        logger.warning("%s: the last line has no line break: is the file complete?", path)

    # `known` is sorted: `order` leads from there to positions in the list.
    order = np.argsort(np.array(images, np.int64), kind="stable")
    return Submission(
        images=order[np.searchsorted(known, columns[:, 0])],
        labels=columns[:, 1].astype(np.int64) - 1,
        scores=columns[:, 2].copy(),
        boxes=columns[:, 3:].copy(),
    )


@cache
def class_numbers() -> Mapping[str, int]:
    """Return DET's class numbers by name, by synset, and by VOC's and COCO's names of the class."""
    by_alias = {name: item.number for item in det_classes() for name in item.aliases}
    by_name = {name: item.number for item in det_classes() for name in (item.wnid, item.name)}
    return by_alias | by_name


def _load_columns(text: bytes) -> NDArray[np.float64]:
    """Load the numbers of UTF-8 text, `float64 [D, 7]` if it is correct.

    Raises:
        ValueError: A field is not a number, or lines differ in length.
    """
    lines = io.TextIOWrapper(io.BytesIO(text), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # numpy warns of an empty file
        columns = np.loadtxt(lines, np.float64, comments=None, ndmin=2)
    return columns.reshape(0, 7) if columns.size == 0 else columns


def _is_valid(columns: NDArray[np.float64], known: NDArray[np.float64]) -> bool:
    """Return whether all lines are finite numbers, with known images and classes."""
    return bool(
        columns.shape[1] == 7
        and np.isfinite(columns).all()
        and np.isin(columns[:, 0], known).all()
        and np.isin(columns[:, 1], np.arange(1, CLASS_COUNT + 1)).all()
    )


def _find_error(path: Path, text: str, images: Collection[int]) -> FormatError:
    """Return the error of the first wrong line of a text that numpy or `_is_valid` refused."""
    known = set(images)
    for line_number, line in enumerate(io.StringIO(text, newline=None), start=1):
        message = _check_line(line, known)
        if message:
            return FormatError(path, message, line_number)
    return FormatError(path, "not a submission")


def _check_line(line: str, known: Collection[int]) -> str | None:
    """Return an error message if a line is wrong."""
    fields = line.split()
    if not fields:
        return None

    try:
        values = [parse_number(field) for field in fields]
    except ValueError:
        values = []

    if len(values) != 7 or len(fields) != 7:
        allowed = "must be image, class, score, xmin, ymin, xmax, ymax"
        return f"{allowed}, not {line.strip()[:80]!r}"
    if not all(map(math.isfinite, values)):
        return f"numbers must be finite, not {line.strip()[:80]!r}"
    if values[0] not in known:
        return f"image {fields[0]} is not in the list"
    if values[1] not in range(1, CLASS_COUNT + 1):
        return f"class {fields[1]} is not one of 1 to 200"
    return None

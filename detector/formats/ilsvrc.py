"""An ILSVRC DET submission: `image class score x1 y1 x2 y2` a line.

The image is its number in the list, the class its number among the 200, pixels count from 0 and
the last one is inclusive. Numbers are separated by blanks, lines come in any order.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.common.atomic_io import atomic_write
from detector.datasets.ilsvrc import det_classes
from detector.errors import FormatError, SettingsError
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header

logger = logging.getLogger(__name__)

CLASS_COUNT = 200


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
    with atomic_write(path) as file:
        for record in records:
            if isinstance(record, Failure):
                continue
            image = image_list.image(record.file)
            for label, score, (x1, y1, x2, y2) in record.detections:
                if label in numbers:
                    corners = f"{x1:g} {y1:g} {x2 - 1:g} {y2 - 1:g}"
                    file.write(f"{image} {numbers[label]} {score:.6f} {corners}\n".encode())


class Submission(NamedTuple):
    """Detections as columns, in the order of their file."""

    images: NDArray[np.int64]
    """`[D]`, positions in the list of images."""
    labels: NDArray[np.int64]
    """`[D]`, 0 for the first class."""
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]
    """`[D, 4]`, xmin, ymin, xmax, ymax in pixels, 0-based, inclusive, neither clipped nor
    rounded."""


def read(path: Path, images: Sequence[int]) -> Submission:
    """Read a submission.

    Args:
        images: the numbers of the list's images, in its order.

    Raises:
        FormatError: naming the first line that is not seven finite numbers, or has an image that
            is not in the list or a class that is not one of the 200.
    """
    try:
        size = path.stat().st_size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # numpy's, on an empty file
            columns = np.loadtxt(path, np.float64, comments=None, ndmin=2, encoding="utf-8")
    except OSError as error:
        raise FormatError(path, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _first_error(path, images) from error
    if columns.size == 0:
        columns = columns.reshape(0, 7)
    known = np.array(sorted(images), np.float64)
    sound = columns.shape[1] == 7 and np.isfinite(columns).all()
    if not (
        sound
        and np.isin(columns[:, 0], known).all()
        and np.isin(columns[:, 1], np.arange(1, CLASS_COUNT + 1)).all()
    ):
        raise _first_error(path, images)
    if size and not _ends(path):
        logger.warning("%s: the last line has no end: is the file whole?", path)
    positions = np.argsort(np.array(images, np.int64), kind="stable")
    return Submission(
        positions[np.searchsorted(known, columns[:, 0])],
        columns[:, 1].astype(np.int64) - 1,
        columns[:, 2].copy(),
        columns[:, 3:].copy(),
    )


def _first_error(path: Path, images: Collection[int]) -> FormatError:
    """What is wrong with the first line that is."""
    known = set(images)
    allowed = "must be image, class, score, xmin, ymin, xmax, ymax"
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not (fields := line.split()):
                continue
            try:
                values = [float(field) for field in fields if "_" not in field]
            except ValueError:
                values = []
            if len(values) != 7 or len(fields) != 7:
                return FormatError(path, f"{allowed}, not {line.strip()[:80]!r}", number)
            if not all(map(math.isfinite, values)):
                return FormatError(path, f"numbers must be finite, not {line.strip()!r}", number)
            if values[0] not in known:
                return FormatError(path, f"image {fields[0]} is not in the list", number)
            if values[1] not in range(1, CLASS_COUNT + 1):
                return FormatError(path, f"class {fields[1]} is not one of 1 to 200", number)
    return FormatError(path, "not a submission")


def _ends(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


@cache
def class_numbers() -> Mapping[str, int]:
    """DET's number by a class's name or synset, or by what VOC or COCO call the same class."""
    equal = {name: item.number for item in det_classes() for name in item.equal}
    return equal | {n: item.number for item in det_classes() for n in (item.wnid, item.name)}

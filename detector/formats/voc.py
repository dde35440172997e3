"""PASCAL VOC's result files: `comp4_det_test_CLASS.txt`, with lines `image score x1 y1 x2 y2`.

Pixels count from 1, and x2 and y2 are inclusive. Images are named without folder and suffix.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from detector.common.atomic_io import atomic_write
from detector.errors import FormatError
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header

PREFIX = "comp4_det_test_"
"""Start of the file names; "comp4" is VOC's detection task with any training data."""


def files(images: Iterable[str], classes: Sequence[str]) -> list[Path]:
    """Return the paths of the files that `write` makes, relative to the output folder."""
    return [class_file(name) for name in classes]


def class_file(name: str) -> Path:
    """Return the path of a class's file, relative to the output folder."""
    return Path(f"{PREFIX}{name}.txt")


def check(images: Sequence[str], classes: Sequence[str], image_list: ImageList) -> None:
    """Check that each image has a name of its own, without spaces.

    Raises:
        FormatError: Two images have the same name, or a name has a space.
    """
    seen: dict[str, str] = {}
    for file in images:
        name = Path(file).stem
        if len(name.split()) != 1:
            raise FormatError(file, "VOC's format allows no space in an image's name")
        if name in seen:
            raise FormatError(file, f"VOC's format names it {name}, the same as {seen[name]}")
        seen[name] = file


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write a file for each class into the folder `path`; see `detector.formats.Format`.

    The images must have passed `check`.
    """
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(atomic_write(path / class_file(name)))
            for name in header.classes
        }
        for record in records:
            if isinstance(record, Failure):
                continue
            name = Path(record.file).stem
            for label, score, (x1, y1, x2, y2) in record.detections:
                corners = f"{x1 + 1:.6f} {y1 + 1:.6f} {x2:.6f} {y2:.6f}"
                line = f"{name} {score:.6f} {corners}\n"
                files[label].write(line.encode("utf-8", "backslashreplace"))


def read(
    folder: Path, images: Mapping[str, int], labels: Mapping[str, int]
) -> list[tuple[float, ...]]:
    """Read the result files of a folder.

    Args:
        folder: Folder with files `…_test_CLASS.txt`. A class may have none.
        images: Positions of the ground truth's images, by name without folder and suffix.
        labels: Labels of the ground truth's classes, by name.

    Returns:
        Rows of image, label, score, x1, y1, x2, y2, the box in pixels, 0-based, with x2 and y2
        exclusive.

    Raises:
        FormatError: The folder has no such file, or a line is wrong.
    """
    files = {
        path.stem.rpartition("_test_")[2]: path for path in sorted(folder.glob("*_test_*.txt"))
    }
    if not files.keys() & labels.keys():
        raise FormatError(folder, f"has no file {PREFIX}CLASS.txt of a class of the ground truth")

    rows: list[tuple[float, ...]] = []
    for name, path in files.items():
        if name not in labels:
            raise FormatError(path, f"the ground truth has no class {name!r}")
        for image, score, x1, y1, x2, y2 in _read_file(path, images):
            rows.append((image, labels[name], score, x1 - 1, y1 - 1, x2, y2))
    return rows


def _read_file(
    path: Path, images: Mapping[str, int]
) -> Iterator[tuple[int, float, float, float, float, float]]:
    """Yield image, score, xmin, ymin, xmax and ymax of each line, as the file has them."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    for line_number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, *fields = line.split()
        try:
            score, x1, y1, x2, y2 = map(float, fields)
        except ValueError as error:
            allowed = "must be image, score, xmin, ymin, xmax, ymax"
            raise FormatError(path, f"{allowed}, not {line[:80]!r}", line_number) from error

        if name not in images:
            raise FormatError(path, f"the ground truth has no image {name}", line_number)
        if not all(map(math.isfinite, (score, x1, y1, x2, y2))):
            raise FormatError(path, f"numbers must be finite, not {line!r}", line_number)
        yield images[name], score, x1, y1, x2, y2

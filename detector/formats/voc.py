"""PASCAL VOC's result files: `comp4_det_test_CLASS.txt`, with lines `image score x1 y1 x2 y2`.

Pixels count from 1, and x2 and y2 are inclusive. Images are named without folder and suffix.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath

from detector.common.atomic_io import atomic_write
from detector.common.text_files import parse_number, read_lines
from detector.errors import FormatError
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header

PREFIX = "comp4_det_test_"
"""Start of the file names; "comp4" is VOC's detection task with any training data."""

RESULT_FILE = re.compile(r".*?_det_[^_]+_(?P<name>.+)")
"""Name of a result file without suffix: competition, task, set of images and class. The name of the
class may hold what separates them."""


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
        if name.split() != [name]:
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
            name = _in_utf8(Path(record.file).stem)
            for label, score, (x1, y1, x2, y2) in record.detections:
                corners = f"{x1 + 1:.6f} {y1 + 1:.6f} {x2:.6f} {y2:.6f}"
                files[label].write(f"{name} {score:.6f} {corners}\n".encode())


def read(folder: Path, images: Sequence[str], labels: Mapping[str, int]) -> list[tuple[float, ...]]:
    """Read the result files of a folder.

    Args:
        folder: Folder with files such as `comp4_det_test_CLASS.txt`. A class may have none.
        images: Names of the ground truth's images. Lines name them without suffix, with or without
            folder.
        labels: Labels of the ground truth's classes, by name.

    Returns:
        Rows of image (its position), label, score, x1, y1, x2, y2, the box in pixels, 0-based, with
        x2 and y2 exclusive.

    Raises:
        FormatError: The files are not those of `find_files`, two images have the same name, or a
            line is wrong.
    """
    positions = _positions(folder, images)
    rows: list[tuple[float, ...]] = []
    for name, path in find_files(folder, labels).items():
        for image, score, x1, y1, x2, y2 in _read_file(path, positions):
            rows.append((image, labels[name], score, x1 - 1, y1 - 1, x2, y2))
    return rows


def find_files(folder: Path, classes: Container[str]) -> dict[str, Path]:
    """Return the result files of a folder by their class.

    Raises:
        FormatError: There is none, there are two of one class, or one is of another class.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*.txt")):
        parts = RESULT_FILE.fullmatch(path.stem)
        if parts is None:
            continue
        name = parts["name"]
        if name in files:
            raise FormatError(path, f"is of the class {name}, as {files[name].name} is")
        if name not in classes:
            raise FormatError(path, f"the ground truth has no class {name!r}")
        files[name] = path
    if not files:
        raise FormatError(folder, f"has no file {PREFIX}CLASS.txt of a class of the ground truth")
    return files


def _in_utf8(name: str) -> str:
    """Return a name with escapes for the bytes that are not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def _positions(folder: Path, images: Sequence[str]) -> dict[str, int]:
    """Return the positions of images by the names that lines may have for them.

    Raises:
        FormatError: Two images differ only in their suffix, their folder or the spaces around them.
    """
    positions: dict[str, int] = {}
    in_folders: dict[str, int] = {}
    for position, image in enumerate(images):
        path = PurePath(image)
        name = _in_utf8(path.stem).strip()
        if name in positions:
            raise FormatError(
                folder,
                f"VOC's files cannot tell {images[positions[name]]} and {image} apart: both are "
                f"{name} there",
            )
        positions[name] = position
        in_folders[_in_utf8(f"{path.parent.as_posix()}/{path.stem}").strip()] = position
    return in_folders | positions


def _read_file(
    path: Path, images: Mapping[str, int]
) -> Iterator[tuple[int, float, float, float, float, float]]:
    """Yield image, score, xmin, ymin, xmax and ymax of each line, as the file has them."""
    for line_number, line in enumerate(read_lines(path, errors="surrogateescape"), start=1):
        if not line.strip():
            continue
        name, *fields = line.strip().rsplit(maxsplit=5)  # a name may have spaces
        try:
            score, x1, y1, x2, y2 = map(parse_number, fields)
        except ValueError as error:
            allowed = "must be image, score, xmin, ymin, xmax, ymax"
            raise FormatError(path, f"{allowed}, not {line[:80]!r}", line_number) from error

        name = _in_utf8(name)
        if name not in images:
            message = f"the ground truth has no image {name[:80]!r}"
            raise FormatError(path, message, line_number)
        if not all(map(math.isfinite, (score, x1, y1, x2, y2))):
            raise FormatError(path, f"numbers must be finite, not {line[:80]!r}", line_number)
        if x2 < x1 - 1 or y2 < y1 - 1:
            message = f"the box ends before it begins: {line[:80]!r}"
            raise FormatError(path, message, line_number)
        yield images[name], score, x1, y1, x2, y2

"""PASCAL VOC's submission: `comp4_det_test_CLASS.txt` with `image score x1 y1 x2 y2` a line.

Pixels count from 1 and the last one is inclusive; images are named without their suffix.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from detector.common.atomic_io import atomic_write
from detector.errors import FormatError
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header

PREFIX = "comp4_det_test_"


def check(images: Sequence[str], classes: Sequence[str], image_list: ImageList) -> None:
    """Look at the images' names.

    Raises:
        FormatError: two images have the same name, or a name has a space.
    """
    seen: dict[str, str] = {}
    for file in images:
        name = Path(file).stem
        if len(name.split()) != 1:
            raise FormatError(file, "VOC's format allows no space in an image's name")
        if name in seen:
            raise FormatError(file, f"VOC's format names it {name}, as it does {seen[name]}")
        seen[name] = file


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write a file for each class into the folder `path`; the images must pass `check`."""
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(atomic_write(path / f"{PREFIX}{name}.txt"))
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
    """Rows of image, label, score, x1, y1, x2, y2, the box 0-based with exclusive ends.

    Args:
        images: positions by name without suffix.
        labels: by class, each of which has a file `…_CLASS.txt` or none.

    Raises:
        FormatError: the folder has no such file, or naming the file and the line that is wrong.
    """
    files = {
        path.stem.rpartition("_test_")[2]: path for path in sorted(folder.glob("*_test_*.txt"))
    }
    if not files.keys() & labels.keys():
        raise FormatError(folder, f"has no file {PREFIX}CLASS.txt of a class of the ground truth")
    rows: list[tuple[float, ...]] = []
    for label, path in files.items():
        if label not in labels:
            raise FormatError(path, f"the ground truth has no class {label!r}")
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        for number, line in enumerate(text.splitlines(), start=1):
            name, *fields = line.split() or [""]
            if not name:
                continue
            try:
                score, x1, y1, x2, y2 = map(float, fields)
            except ValueError as error:
                allowed = "must be image, score, xmin, ymin, xmax, ymax"
                raise FormatError(path, f"{allowed}, not {line[:80]!r}", number) from error
            if name not in images:
                raise FormatError(path, f"the ground truth has no image {name}", number)
            if not all(map(math.isfinite, (score, x1, y1, x2, y2))):
                raise FormatError(path, f"numbers must be finite, not {line!r}", number)
            rows.append((images[name], labels[label], score, x1 - 1, y1 - 1, x2, y2))
    return rows

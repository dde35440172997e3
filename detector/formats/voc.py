"""PASCAL VOC's submission: `comp4_det_test_CLASS.txt` with `image score x1 y1 x2 y2` a line.

Pixels count from 1 and the last one is inclusive; images are named without their suffix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from detector.errors import FormatError
from detector.formats.files import replacing
from detector.formats.image_lists import ImageList
from detector.formats.native import Entry, Failure, Header


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
            name: stack.enter_context(replacing(path / f"comp4_det_test_{name}.txt"))
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

"""Formats of detections: one module each, and here their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from detector.formats import coco, ilsvrc, native, records, table, voc, yolo
from detector.formats.image_lists import ImageList


class Format(NamedTuple):
    """How detections are written."""

    write: Callable[
        [Path, records.Header, Iterable[records.Entry | records.Failure], ImageList], None
    ]
    check: Callable[[Sequence[str], Sequence[str], ImageList], None] = lambda *_: None
    """Raises FormatError or SettingsError for images, classes and ids that it cannot express."""
    folder: bool = False
    """Does it consist of several files?"""
    file_of: Callable[[str], Path | None] = lambda _: None
    """In such a folder, the file that is about this image alone."""


FORMATS: Mapping[str, Format] = {
    "native": Format(native.write),
    "coco": Format(coco.write, coco.check),
    "voc": Format(voc.write, voc.check, folder=True),
    "ilsvrc": Format(ilsvrc.write, ilsvrc.check),
    "yolo": Format(yolo.write, yolo.check, folder=True, file_of=yolo.file_of),
    "csv": Format(table.write),
}

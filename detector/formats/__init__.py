"""Formats of detections: one module each, and here their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from detector.formats import coco, ilsvrc, native, table, voc, yolo
from detector.formats.image_lists import ImageList

Write = Callable[[Path, native.Header, Iterable[native.Entry | native.Failure], ImageList], None]

WRITERS: Mapping[str, Write] = {
    "native": native.write,
    "coco": coco.write,
    "voc": voc.write,
    "ilsvrc": ilsvrc.write,
    "yolo": yolo.write,
    "csv": table.write,
}
FOLDERS = frozenset({"voc", "yolo"})
"""Formats that consist of several files."""

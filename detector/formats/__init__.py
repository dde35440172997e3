"""The file formats of detections: one module for each, and their names in `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from detector.formats import coco, ilsvrc, native, records, table, voc, yolo
from detector.formats.image_lists import ImageList


class Format(NamedTuple):
    """Functions that write one file format.

    To add a format:

    1. Write a module in this folder with a function `write`, as described below. Open files with
       `detector.common.atomic_io.atomic_write`, so that a stopped run leaves no half-written file.
       Convert the boxes there: everywhere else they are x1, y1, x2, y2 in pixels, 0-based, with
       x2 and y2 exclusive.
    2. If the format cannot express every image name or class, or if it needs ids, add a function
       `check` to the module. A run calls it before it computes anything.
    3. Add a line to `FORMATS`. `detector-run --format` then accepts the new name.
    4. Add `tests/detector/formats/test_NAME.py`.

    `detector/formats/table.py` is the shortest example.
    """

    write: Callable[
        [Path, records.Header, Iterable[records.Entry | records.Failure], ImageList], None
    ]
    """Write the records of a run, in their order, to a path.

    It takes the path of the file or folder, the header of the run, the records of the images (an
    iterator that is read only once, so that a run of any length fits in memory), and the ids of
    the images. It raises `FormatError` if the format cannot express a record.
    """
    check: Callable[[Sequence[str], Sequence[str], ImageList], None] = lambda *_: None
    """Raise `FormatError` or `SettingsError` if the format cannot express the result.

    It takes the names of the images, the names of the classes, and the ids of the images. By
    default everything is accepted.
    """
    left_out: Callable[[Sequence[str]], Collection[str]] = lambda _: ()
    """Return those of the bundle's classes whose detections `write` leaves out."""
    is_folder: bool = False
    """Whether `write` makes a folder of files instead of one file."""
    files: Callable[[Iterable[str], Sequence[str]], Iterable[Path]] = lambda *_: ()
    """Return the paths of all files of such a folder, inside it.

    It takes the names of the images and the names of the classes.
    """
    image_file: Callable[[str], Path | None] = lambda _: None
    """Return the path, inside such a folder, of the file that describes only this image.

    Files of images that are no longer part of the run are removed. None, the default, means that
    the image has no file of its own.
    """


FORMATS: Mapping[str, Format] = {
    "native": Format(native.write),
    "coco": Format(coco.write, coco.check),
    "voc": Format(voc.write, voc.check, is_folder=True, files=voc.files),
    "ilsvrc": Format(ilsvrc.write, ilsvrc.check, ilsvrc.left_out),
    "yolo": Format(
        yolo.write, yolo.check, is_folder=True, files=yolo.files, image_file=yolo.image_file
    ),
    "csv": Format(table.write),
}
"""Formats by their names in `detector-run --format`."""

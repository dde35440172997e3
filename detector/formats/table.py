"""Detections as a table in CSV, one in a line: `file,label,score,x1,y1,x2,y2`.

Boxes are in pixels, 0-based, with x2 and y2 exclusive.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from detector.common.atomic_io import atomic_csv
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header

COLUMNS = ("file", "label", "score", "x1", "y1", "x2", "y2")


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write detections to a CSV file; see `detector.formats.Format`."""
    with atomic_csv(path, COLUMNS) as table:
        for record in records:
            if isinstance(record, Entry):
                table.writerows(
                    (record.file, label, f"{score:.6f}", *box)
                    for label, score, box in record.detections
                )

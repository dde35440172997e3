"""A table (CSV): `file,label,score,x1,y1,x2,y2`, a detection a line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from detector.formats.files import replacing
from detector.formats.image_lists import ImageList
from detector.formats.native import Entry, Failure, Header

COLUMNS = ("file", "label", "score", "x1", "y1", "x2", "y2")


def write(
    path: Path, header: Header, records: Iterable[Entry | Failure], image_list: ImageList
) -> None:
    """Write a table in UTF-8 with a line of headings."""
    with replacing(path) as file:
        text = io.TextIOWrapper(
            file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True
        )
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for record in records:
            if isinstance(record, Entry):
                table.writerows(
                    (record.file, label, f"{score:.6f}", *box)
                    for label, score, box in record.detections
                )
        text.detach()

"""Writing detections as CSV."""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.formats import table
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header
from detector.results import Detection

HEADER = Header({}, {}, ("cat", "dog"))
DOG = Detection("dog", 0.931204, (48.0, 240.0, 195.0, 371.0))
CAT = Detection("cat", 0.05, (0.0, 0.0, 500.0, 375.0))
HEADER_LINE = "file,label,score,x1,y1,x2,y2\n"


def write_and_read(path: Path, records: list[Entry | Failure]) -> str:
    """Write records to a file and return its text."""
    table.write(path, HEADER, records, ImageList({}, {}))
    return path.read_bytes().decode("utf-8")


@pytest.mark.parametrize(
    ("records", "lines"),
    [
        pytest.param([], "", id="no images"),
        pytest.param([Failure("a.jpg", "empty-image", "is empty")], "", id="a failure"),
        pytest.param([Entry("a.jpg", 500, 375, {}, ())], "", id="an image without objects"),
        pytest.param(
            [Entry("a.jpg", 500, 375, {}, (DOG, CAT))],
            "a.jpg,dog,0.931204,48.0,240.0,195.0,371.0\na.jpg,cat,0.050000,0.0,0.0,500.0,375.0\n",
            id="two objects",
        ),
        pytest.param(
            [Entry('a, "b" c.jpg', 500, 375, {}, (DOG,))],
            '"a, ""b"" c.jpg",dog,0.931204,48.0,240.0,195.0,371.0\n',
            id="space, comma and quotes",
        ),
        pytest.param(
            [Entry("фото.jpg", 500, 375, {}, (DOG,))],
            "фото.jpg,dog,0.931204,48.0,240.0,195.0,371.0\n",
            id="not ASCII",
        ),
        pytest.param(
            [Entry(os.fsdecode(b"caf\xe9.jpg"), 500, 375, {}, (DOG,))],
            "caf\\udce9.jpg,dog,0.931204,48.0,240.0,195.0,371.0\n",
            id="not UTF-8",
        ),
    ],
)
def test_each_detection_is_a_line(
    records: list[Entry | Failure], lines: str, tmp_path: Path
) -> None:
    assert write_and_read(tmp_path / "dets.csv", records) == HEADER_LINE + lines


# Before Python 3.13, csv cannot read back a name with a carriage return that it has written.
EXCLUDED = "" if sys.version_info >= (3, 13) else "\r"
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters=EXCLUDED), min_size=1)
PIXELS = st.integers(0, 10**6).map(float)


@given(
    st.lists(
        st.tuples(
            TEXTS,
            st.sampled_from(HEADER.classes),
            st.integers(0, 10**6).map(lambda millionths: millionths / 10**6),
            st.tuples(PIXELS, PIXELS, PIXELS, PIXELS),
        )
    )
)
@settings(max_examples=50)
def test_tables_are_read_back(
    rows: list[tuple[str, str, float, tuple[float, float, float, float]]],
) -> None:
    records: list[Entry | Failure] = [
        Entry(file, 10, 10, {}, (Detection(label, score, box),)) for file, label, score, box in rows
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dets.csv"
        write_and_read(path, records)
        with open(path, encoding="utf-8", newline="") as file:
            columns, *written_rows = csv.reader(file)
    assert tuple(columns) == table.COLUMNS
    assert [(name, label, *map(float, rest)) for name, label, *rest in written_rows] == [
        (file, label, score, *box) for file, label, score, box in rows
    ]

"""Writing YOLO's text files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.errors import FormatError
from detector.formats import yolo
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header
from detector.results import Detection

HEADER = Header({}, {}, ("cat", "hot dog"))
DOG = Detection("hot dog", 0.931204, (50.0, 240.0, 150.0, 360.0))
CAT = Detection("cat", 0.05, (0.0, 0.0, 500.0, 400.0))
CLASSES = "cat\nhot dog\n"
DOG_LINE = "1 0.200000 0.750000 0.200000 0.300000 0.931204\n"
CAT_LINE = "0 0.500000 0.500000 1.000000 1.000000 0.050000\n"


def write_and_read(folder: Path, records: list[Entry | Failure]) -> dict[str, str]:
    """Write records to a folder and return the text of each file by its path in the folder."""
    yolo.write(folder, HEADER, records, ImageList({}, {}))
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode("utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("records", "files"),
    [
        pytest.param([], {}, id="no images"),
        pytest.param([Failure("a.jpg", "empty-image", "is empty")], {}, id="a failure"),
        pytest.param([Entry("a.jpg", 500, 400, {}, ())], {"a.txt": ""}, id="no objects"),
        pytest.param(
            [Entry("a.jpg", 500, 400, {}, (DOG, CAT))], {"a.txt": DOG_LINE + CAT_LINE}, id="objects"
        ),
        pytest.param(
            [Entry("a/b c.jpg", 500, 400, {}, (DOG,)), Entry("фото.x.png", 500, 400, {}, (CAT,))],
            {"a/b c.txt": DOG_LINE, "фото.x.txt": CAT_LINE},
            id="folder, space, not ASCII, two dots",
        ),
        pytest.param(
            [Entry(os.fsdecode(b"caf\xe9.jpg"), 500, 400, {}, (DOG,))],
            {os.fsdecode(b"caf\xe9.txt"): DOG_LINE},
            id="not UTF-8",
            marks=pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there"),
        ),
        pytest.param(
            [Entry("a/classes.jpg", 500, 400, {}, (DOG,))],
            {"a/classes.txt": DOG_LINE},
            id="a name like that of the list of classes, in a folder",
        ),
    ],
)
def test_each_image_has_a_file(
    records: list[Entry | Failure], files: dict[str, str], tmp_path: Path
) -> None:
    assert write_and_read(tmp_path / "out", records) == files | {"classes.txt": CLASSES}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param(["a/1.jpg", "a/1.png"], "a/1.png: .* for a/1.jpg", id="suffixes"),
        pytest.param(["classes.png"], "classes.png: .* the list of classes", id="classes"),
        pytest.param(["../a.jpg"], r"\.\./a.jpg: .* outside the folder", id="a parent's"),
        pytest.param(["a/../../b.jpg"], "outside the folder", id="a parent's, inside"),
        pytest.param(["/etc/a.jpg"], "/etc/a.jpg: .* outside the folder", id="absolute"),
        pytest.param(["a.txt/b.jpg", "a.png"], "folder for it, a.txt, is the file", id="a folder"),
    ],
)
def test_files_that_are_outside_or_of_others_are_refused(files: list[str], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        yolo.check(files, ["dog"], ImageList.from_files(files))


def test_images_with_different_files_are_accepted() -> None:
    files = ["a.jpg", "b.jpg", "c/a.png", "c/classes.png"]
    yolo.check(files, ["dog"], ImageList.from_files(files))


SIDES = st.integers(1, 20_000)


@given(SIDES, SIDES, st.data())
@settings(max_examples=50)
def test_boxes_can_be_recovered(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, data: st.DataObject
) -> None:
    x1 = data.draw(st.integers(0, width - 1))
    y1 = data.draw(st.integers(0, height - 1))
    x2 = data.draw(st.integers(x1 + 1, width))
    y2 = data.draw(st.integers(y1 + 1, height))
    detection = Detection("cat", 0.5, (float(x1), float(y1), float(x2), float(y2)))
    folder = tmp_path_factory.mktemp("yolo")
    line = write_and_read(folder, [Entry("1.jpg", width, height, {}, (detection,))])["1.txt"]
    label, x, y, w, h, score = map(float, line.split())
    assert (label, score) == (0, 0.5)
    assert all(0 <= fraction <= 1 for fraction in (x, y, w, h))
    box = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
    error = 1e-6 * max(width, height)  # six decimals
    assert box == pytest.approx([x1, y1, x2, y2], rel=0, abs=error)

"""Writing PASCAL VOC's result files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.errors import FormatError
from detector.formats import voc
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header
from detector.results import Detection
from proposals.boxes import iou

HEADER = Header({}, {}, ("cat", "dog"))
DOG = Detection("dog", 0.931204, (48.0, 240.0, 195.0, 371.0))
CAT = Detection("cat", 0.05, (0.0, 0.0, 500.0, 375.0))
NO_IDS = ImageList({}, {})


def write_and_read(folder: Path, records: list[Entry | Failure]) -> dict[str, str]:
    """Write records to a folder and return the text of each file by its name."""
    voc.write(folder, HEADER, records, NO_IDS)
    return {path.name: path.read_bytes().decode("utf-8") for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("records", "cats", "dogs"),
    [
        pytest.param([], "", "", id="no images"),
        pytest.param([Failure("a.jpg", "empty-image", "is empty")], "", "", id="a failure"),
        pytest.param([Entry("a.jpg", 500, 375, {}, ())], "", "", id="an image without objects"),
        pytest.param(
            [Entry("000005.jpg", 500, 375, {}, (DOG, CAT))],
            "000005 0.050000 1.000000 1.000000 500.000000 375.000000\n",
            "000005 0.931204 49.000000 241.000000 195.000000 371.000000\n",
            id="two classes",
        ),
        pytest.param(
            [Entry("b/2.x.jpg", 500, 375, {}, (DOG,)), Entry("a/1.jpg", 500, 375, {}, (DOG,))],
            "",
            "2.x 0.931204 49.000000 241.000000 195.000000 371.000000\n"
            "1 0.931204 49.000000 241.000000 195.000000 371.000000\n",
            id="two images, named without folder and suffix",
        ),
        pytest.param(
            [Entry(os.fsdecode("фото".encode() + b"\xe9.jpg"), 500, 375, {}, (DOG,))],
            "",
            "фото\\udce9 0.931204 49.000000 241.000000 195.000000 371.000000\n",
            id="a name that is not UTF-8",
        ),
    ],
)
def test_each_class_has_a_file(
    records: list[Entry | Failure], cats: str, dogs: str, tmp_path: Path
) -> None:
    assert write_and_read(tmp_path / "out", records) == {
        "comp4_det_test_cat.txt": cats,
        "comp4_det_test_dog.txt": dogs,
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param(["a b.jpg"], "a b.jpg: VOC's format allows no space", id="a space"),
        pytest.param(["a\u00a0b.jpg"], "allows no space", id="a no-break space"),
        pytest.param(["a\n.jpg"], "allows no space", id="a line break at the end"),
        pytest.param(["a/1.jpg", "b/1.jpg"], "b/1.jpg: .* names it 1, .* a/1.jpg", id="folders"),
        pytest.param(["1.jpg", "1.png"], "1.png: .* names it 1, .* 1.jpg", id="suffixes"),
    ],
)
def test_ambiguous_names_are_refused(files: list[str], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        voc.check(files, ["dog"], ImageList.from_files(files))


def test_unambiguous_names_are_accepted() -> None:
    files = ["a.jpg", "b.jpg", "c/d.png"]
    voc.check(files, ["dog"], ImageList.from_files(files))


def vocdevkit_overlap(a: list[float], b: list[float]) -> float:
    """Compute the IoU of boxes with inclusive ends, as `VOCevaldet.m` does line by line."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0
    area = (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return width * height / (area - width * height)


SPAN = st.tuples(st.integers(0, 99), st.integers(1, 50)).map(lambda p: (p[0], p[0] + p[1]))
BOX = st.tuples(SPAN, SPAN).map(lambda s: tuple(map(float, (s[0][0], s[1][0], s[0][1], s[1][1]))))


@given(BOX, BOX)
@settings(max_examples=50)
def test_the_devkit_computes_the_same_overlaps(
    tmp_path_factory: pytest.TempPathFactory,
    a: tuple[float, float, float, float],
    b: tuple[float, float, float, float],
) -> None:
    folder = tmp_path_factory.mktemp("voc")
    detections = (Detection("cat", 0.9, a), Detection("cat", 0.8, b))
    files = write_and_read(folder, [Entry("1.jpg", 200, 200, {}, detections)])
    lines = files["comp4_det_test_cat.txt"].splitlines()
    first, second = ([float(part) for part in line.split()[2:]] for line in lines)
    expected = float(iou(np.array([a], np.float32), np.array([b], np.float32))[0, 0])
    assert vocdevkit_overlap(first, second) == pytest.approx(expected)
    assert min(first) >= 1


CLASS_NAMES = ["cat", "cat_test_a", "a_det_test_b", "a b", "a,b", "a.txt", "é", "_", "test"]


def test_class_names_with_the_parts_of_file_names_are_read_back(tmp_path: Path) -> None:
    header = Header({}, {}, tuple(CLASS_NAMES))
    found = tuple(
        Detection(name, score / 10, (0.0, 0.0, 9.0, 9.0))
        for score, name in enumerate(CLASS_NAMES, start=1)
    )
    entry = Entry("a.jpg", 9, 9, {}, found)
    voc.write(tmp_path / "out", header, [entry], ImageList.from_files(["a.jpg"]))
    labels = {name: label for label, name in enumerate(CLASS_NAMES)}
    rows = voc.read(tmp_path / "out", ["a.jpg"], labels)
    scores = {label: round(score, 3) for _, label, score, *_ in rows}
    assert scores == {label: (label + 1) / 10 for label in range(len(CLASS_NAMES))}


@pytest.mark.parametrize(
    "name", ["comp3_det_val_cat.txt", "comp4-1234_det_test_cat.txt", "results_det_2012_cat.txt"]
)
def test_files_of_other_competitions_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("b/IMG (1) 0.5 1 1 9 9\n")
    assert voc.read(tmp_path, ["a.jpg", "b/IMG (1).jpg"], {"cat": 0}) == [(1, 0, 0.5, 0, 0, 9, 9)]


def test_two_files_of_one_class_are_refused(tmp_path: Path) -> None:
    for name in ("comp3_det_test_cat.txt", "comp4_det_test_cat.txt"):
        (tmp_path / name).write_text("")
    with pytest.raises(FormatError, match=r"is of the class cat, as comp3_det_test_cat\.txt is"):
        voc.read(tmp_path, ["a.jpg"], {"cat": 0})


def test_names_that_are_not_utf8_are_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    voc.write(tmp_path / "out", HEADER, [Entry(name, 9, 9, {}, (CAT,))], NO_IDS)
    (row,) = voc.read(tmp_path / "out", ["caf.jpg", name], {"cat": 0, "dog": 1})
    assert row[0] == 1

    raw = tmp_path / "out" / "comp4_det_test_cat.txt"
    raw.write_bytes(b"caf\xe9 0.5 1 1 9 9\n")
    assert voc.read(tmp_path / "out", [name], {"cat": 0, "dog": 1}) == [(0, 0, 0.5, 0, 0, 9, 9)]


def test_names_that_differ_by_spaces_are_refused(tmp_path: Path) -> None:
    (tmp_path / "comp4_det_test_cat.txt").write_text("a 0.5 1 1 9 9\n")
    with pytest.raises(FormatError, match=r"cannot tell a\.jpg and  a\.jpg apart"):
        voc.read(tmp_path, ["a.jpg", " a.jpg"], {"cat": 0})


@pytest.mark.parametrize(
    "number", ["1_0", "\u0661", "0x1", "1,5", "", "--1", "nan", "inf", "1e999"]
)
def test_what_is_no_finite_number_is_refused(number: str, tmp_path: Path) -> None:
    (tmp_path / "comp4_det_test_cat.txt").write_text(f"a 0.5 1 1 9 9\na 0.5 1 {number} 9 9\n")
    with pytest.raises(FormatError, match=r"cat\.txt:2: (must be image, score|numbers must be)"):
        voc.read(tmp_path, ["a.jpg"], {"cat": 0})

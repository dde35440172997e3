"""Writing submissions to ILSVRC DET, and the numbers of its classes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.datasets.ilsvrc import CLASS_TABLE
from detector.errors import FormatError, SettingsError
from detector.formats import ilsvrc
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header
from detector.results import Detection

HEADER = Header({}, {}, ("dog", "boat", "person"))
DOG = Detection("dog", 0.931204, (48.0, 240.0, 195.0, 371.0))
BOAT = Detection("boat", 0.05, (0.0, 0.0, 500.0, 375.0))
LIST = ImageList({"ILSVRC2012_val_00000007": 7, "a.jpg": 12}, {}, "val.txt")


def write_and_read(path: Path, records: list[Entry | Failure], header: Header = HEADER) -> str:
    """Write records to a file and return its text."""
    ilsvrc.write(path, header, records, LIST)
    return path.read_text(encoding="utf-8")


def read_class_table() -> list[dict[str, str]]:
    """Return the rows of the table of classes."""
    with open(CLASS_TABLE, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("records", "lines"),
    [
        pytest.param([], "", id="no images"),
        pytest.param([Failure("a.jpg", "empty-image", "is empty")], "", id="a failure"),
        pytest.param([Entry("a.jpg", 500, 375, {}, ())], "", id="an image without objects"),
        pytest.param(
            [Entry("a.jpg", 500, 375, {}, (DOG,))],
            "12 58 0.931204 48 240 194 370\n",
            id="0-based pixels, inclusive",
        ),
        pytest.param(
            [Entry("val/ILSVRC2012_val_00000007.JPEG", 500, 375, {}, (DOG,))],
            "7 58 0.931204 48 240 194 370\n",
            id="an image that the list names without suffix",
        ),
    ],
)
def test_each_detection_is_a_line(
    records: list[Entry | Failure], lines: str, tmp_path: Path
) -> None:
    assert write_and_read(tmp_path / "out.txt", records) == lines


def test_classes_that_det_lacks_are_left_out(tmp_path: Path) -> None:
    assert "boat" not in ilsvrc.class_numbers()
    detections = (BOAT, DOG)
    lines = write_and_read(tmp_path / "out.txt", [Entry("a.jpg", 500, 375, {}, detections)])
    assert lines == "12 58 0.931204 48 240 194 370\n"


def test_a_bundle_without_det_classes_is_refused() -> None:
    ids = ImageList.from_files(["a.jpg"])
    with pytest.raises(SettingsError, match=r"boat, unicorn.*200"):
        ilsvrc.check(["a.jpg"], ["boat", "unicorn"], ids)
    ilsvrc.check(["a.jpg"], ["boat", "dog"], ids)
    with pytest.raises(FormatError, match="has no image b"):
        ilsvrc.check(["b.jpg"], ["dog"], ids)


def test_images_that_the_list_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"^val\.txt: has no image b\.jpg$"):
        write_and_read(tmp_path / "out.txt", [Entry("b.jpg", 500, 375, {}, (DOG,))])
    assert list(tmp_path.iterdir()) == []


SPAN = st.tuples(st.integers(0, 20_000), st.integers(1, 20_000))


@given(SPAN, SPAN)
@settings(max_examples=50)
def test_boxes_can_be_recovered(
    tmp_path_factory: pytest.TempPathFactory, columns: tuple[int, int], rows: tuple[int, int]
) -> None:
    x, width = columns
    y, height = rows
    detection = Detection("dog", 0.5, (float(x), float(y), float(x + width), float(y + height)))
    path = tmp_path_factory.mktemp("ilsvrc") / "out.txt"
    line = write_and_read(path, [Entry("a.jpg", 40_000, 40_000, {}, (detection,))])
    x1, y1, x2, y2 = map(int, line.split()[3:])
    assert (x1, y1) == (x, y)
    assert (x2 - x1 + 1, y2 - y1 + 1) == (width, height)


def test_det_has_200_classes_numbered_from_1() -> None:
    assert [int(row["det_id"]) for row in read_class_table()] == list(range(1, 201))
    assert (
        len({row["wnid"] for row in read_class_table()})
        == len({row["det_name"] for row in read_class_table()})
        == 200
    )


def test_names_and_synsets_have_their_class_number() -> None:
    numbers = ilsvrc.class_numbers()
    for row in read_class_table():
        assert numbers[row["det_name"]] == int(row["det_id"])
        assert numbers[row["wnid"]] == int(row["det_id"])


@pytest.mark.parametrize(
    ("name", "det_name"),
    [
        pytest.param("dog", "dog", id="the same name"),
        pytest.param("n02084071", "dog", id="a synset"),
        pytest.param("aeroplane", "airplane", id="voc"),
        pytest.param("motorbike", "motorcycle", id="voc, another word"),
        pytest.param("tvmonitor", "tv or monitor", id="voc, one word"),
        pytest.param("cell phone", "", id="coco, not in det"),
    ],
)
def test_names_of_other_data_sets_are_known(name: str, det_name: str) -> None:
    by_number = {int(row["det_id"]): row["det_name"] for row in read_class_table()}
    assert by_number.get(ilsvrc.class_numbers().get(name, 0), "") == det_name


def test_classes_that_are_left_out_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    classes = ["boat", "dog", "a, b"]
    assert ilsvrc.left_out(classes) == ["boat", "a, b"]
    ilsvrc.check(["a.jpg"], classes, ImageList.from_files(["a.jpg"]))
    (message,) = caplog.messages
    assert "no class for 2 of the bundle's 3 classes" in message
    assert message.endswith("boat, a, b")

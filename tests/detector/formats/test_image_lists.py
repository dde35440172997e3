"""Ids of images and classes: from annotation files, from lists, and by counting."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.errors import FormatError
from detector.formats.image_lists import ImageList

FILE_NAMES = st.binary().filter(lambda name: b"\0" not in name).map(os.fsdecode)
COCO = {
    "images": [
        {"id": 139, "file_name": "000139.jpg"},
        {"id": 7, "file_name": "val/000007.jpg"},
        {"id": 1, "file_name": "north/1.jpg"},
        {"id": 2, "file_name": "south/1.jpg"},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
}


def read_coco_list(folder: Path, content: Any = COCO) -> ImageList:
    """Write JSON to an annotation file and read it."""
    path = folder / "instances.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return ImageList.read(path)


@pytest.mark.parametrize(
    ("file", "number"),
    [
        pytest.param("000139.jpg", 139, id="its name"),
        pytest.param("photos/000139.jpg", 139, id="in a folder that the list lacks"),
        pytest.param("val/000007.jpg", 7, id="its path"),
        pytest.param("000007.jpg", 7, id="without the list's folder"),
        pytest.param("north/1.jpg", 1, id="one of two with the same name"),
        pytest.param("south/1.jpg", 2, id="the other of the two"),
    ],
)
def test_ids_from_an_annotation_file(file: str, number: int, tmp_path: Path) -> None:
    assert read_coco_list(tmp_path).image_id(file) == number


@pytest.mark.parametrize("file", ["000140.jpg", "000139.png", "1.jpg", "east/1.jpg"])
def test_images_that_an_annotation_file_lacks_are_refused(file: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=f"has no image {file}$") as caught:
        read_coco_list(tmp_path).image_id(file)
    assert caught.value.file == str(tmp_path / "instances.json")


def test_classes_of_an_annotation_file(tmp_path: Path) -> None:
    assert read_coco_list(tmp_path).class_ids == {"person": 1, "dog": 18}
    assert read_coco_list(tmp_path, {"images": []}).class_ids == {}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        pytest.param("", {}, id="empty"),
        pytest.param("a 1\n", {"a": 1}, id="one"),
        pytest.param(
            "ILSVRC2012_val_00000001 1\nILSVRC2012_val_00000002 2",
            {"ILSVRC2012_val_00000001": 1, "ILSVRC2012_val_00000002": 2},
            id="two, without a last line break",
        ),
        pytest.param("train/фото\t12\r\n", {"train/фото": 12}, id="tab, folder, not ASCII"),
    ],
)
def test_ids_from_lines(text: str, ids: dict[str, int], tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_bytes(text.encode())
    image_list = ImageList.read(path)
    assert image_list.image_ids == ids
    assert image_list.class_ids == {}
    assert image_list.source == str(path)
    for name, number in ids.items():
        assert image_list.image_id(name) == number
        assert image_list.image_id(f"{name}.JPEG") == number


@pytest.mark.parametrize("file", ["a/b.c.JPEG", "b.c.JPEG", "x/y/b.c.png", "b.c"])
def test_images_are_found_without_folder_and_suffix(file: str, tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("b.c 5\n", encoding="utf-8")
    assert ImageList.read(path).image_id(file) == 5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("\n", 1, id="an empty line"),
        pytest.param("a 1\nb\n", 2, id="no id"),
        pytest.param("a 1\nb ²\n", 2, id="a digit that is no id"),
        pytest.param("a 1.5\n", 1, id="a fraction"),
        pytest.param("a -1\n", 1, id="a negative id"),
    ],
)
def test_broken_lines_are_named(text: str, line: int, tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match="must be a name and an id") as caught:
        ImageList.read(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="null"),
        pytest.param([], id="a list"),
        pytest.param({}, id="no images"),
        pytest.param({"images": None}, id="null for images"),
        pytest.param({"images": [{"id": 1}]}, id="no file name"),
        pytest.param({"images": [{"file_name": "a.jpg"}]}, id="no id"),
        pytest.param({"images": [{"id": 1, "file_name": 5}]}, id="a number for a name"),
        pytest.param({"images": [], "categories": [{"id": 1}]}, id="a category without a name"),
        pytest.param({"images": [], "categories": None}, id="null for categories"),
    ],
)
def test_other_json_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(
        FormatError, match=r"not a COCO annotation file|needs (file_)?name, a text, and id"
    ) as caught:
        read_coco_list(tmp_path, content)
    assert caught.value.file == str(tmp_path / "instances.json")


@pytest.mark.parametrize("name", ["a.txt", "a.json"])
@pytest.mark.parametrize("content", [None, b"caf\xe9 1\n"], ids=["missing", "not UTF-8"])
def test_unreadable_files_are_refused(content: bytes | None, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError, match=r"cannot be read|is not UTF-8") as caught:
        ImageList.read(path)
    assert caught.value.file == str(path)


@given(st.lists(FILE_NAMES.map(lambda name: f"{name}.jpg"), unique=True))
def test_files_are_counted_in_their_order(files: list[str]) -> None:
    image_list = ImageList.from_files(files)
    assert [image_list.image_id(file) for file in files] == list(range(1, len(files) + 1))
    assert image_list.class_ids == {}


def test_other_images_than_those_of_the_run_are_refused() -> None:
    with pytest.raises(FormatError, match=r"^the images of this run: has no image c\.jpg$"):
        ImageList.from_files(["a.jpg", "a/b.jpg"]).image_id("c.jpg")


def test_names_may_have_spaces_and_are_listed_once(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("a b.jpg 1\nc 2\n")
    assert ImageList.read(path).image_ids == {"a b.jpg": 1, "c": 2}
    path.write_text("a 1\nb 2\na 3\n")
    with pytest.raises(FormatError, match=r"val\.txt:3: a is listed twice"):
        ImageList.read(path)


@pytest.mark.parametrize(
    "content",
    [
        {"images": [{"id": "1", "file_name": "a.jpg"}]},
        {"images": [{"id": True, "file_name": "a.jpg"}]},
        {"images": [{"id": 1, "file_name": None}]},
        {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpg"}]},
        {"images": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]},
    ],
)
def test_items_of_other_types_and_names_twice_are_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"(images|categories)\[[01]\]: "):
        read_coco_list(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]},
            r"images\[1\]: id 1 is that of images\[0\]$",
        ),
        (
            {"images": [], "categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]},
            r"categories\[1\]: id 3 is that of categories\[0\]$",
        ),
        (
            {"images": [{"id": 1.0, "file_name": "a.jpg"}]},
            'images\\[0\\]: needs file_name, a text, and id, a whole number, not "a.jpg" and 1.0$',
        ),
    ],
)
def test_ids_are_whole_and_are_there_once(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        read_coco_list(tmp_path, content)


def test_two_lines_with_one_id_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("a 1\nb 1\n")
    with pytest.raises(FormatError, match=r"val\.txt:2: b has the id 1, which a has$"):
        ImageList.read(path)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("cam1/0001.jpg", 1),
        ("cam2/0001.jpg", 2),
        (".\\cam2\\0001.png", 2),
        ("0001.jpg", None),
        ("cam3/0001.jpg", None),
        ("x/0002.jpg", 3),
        ("0003.jpg", 4),
        ("cam9/0003.jpg", 4),
    ],
)
def test_a_stem_of_two_images_is_neither(file: str, expected: int | None, tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("cam1/0001 1\n./cam2/0001 2\n0002 3\ncam1\\0003 4\n")
    image_list = ImageList.read(path)
    if expected is None:
        message = r"has cam1/0001 and \./cam2/0001, but has no image"
        with pytest.raises(FormatError, match=message):
            image_list.image_id(file)
    else:
        assert image_list.image_id(file) == expected


def test_two_images_of_a_run_need_two_ids(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("0001 1\n")
    image_list = ImageList.read(path)
    image_list.check(["cam1/0001.jpg"])
    with pytest.raises(FormatError, match=r"the same id, 1, for cam1/0001\.jpg and cam2/0001\.jpg"):
        image_list.check(["cam1/0001.jpg", "cam2/0001.jpg"])

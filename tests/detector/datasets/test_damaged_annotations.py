"""Damaged annotations end in one line, or are read as a literal reading of the file has them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from detector.common.text_files import read_text
from detector.datasets import coco, ilsvrc, voc
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError
from tests.support.damage import damage_bytes, swap_value

COUNT = 150
"""Damaged files of each kind here; `benchmarks/damaged_files.py` tries thousands."""

TRUTH: dict[str, Any] = {
    "images": [
        {"id": 9, "file_name": "b é.jpg", "width": 500, "height": 375},
        {"id": 2, "file_name": "a/1.jpg", "width": 40, "height": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 2, "category_id": 18, "bbox": [5, 6, 2, 3], "area": 6, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 50.5, 75], "difficult": 1},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
}
XML = (
    "<annotation><filename>a.jpg</filename><size><width>500</width><height>375</height></size>"
    "<object><name>dog</name><difficult>1</difficult><bndbox><xmin>48</xmin><ymin>240</ymin>"
    "<xmax>195</xmax><ymax>371</ymax></bndbox></object><object><name>cat</name><bndbox>"
    "<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
)


def literal_coco(path: Path) -> list[tuple[str, list[list[float]], list[str], list[bool]]]:
    """Read a COCO file value by value. A value of another type is an error."""
    content = json.loads(read_text(path))
    names = {}
    for item in content["categories"]:
        assert type(item["id"]) is int
        assert type(item["name"]) is str
        names[item["id"]] = item["name"]
    images = []
    for image in content["images"]:
        assert type(image["file_name"]) is str
        boxes, labels, difficult = [], [], []
        for item in content["annotations"]:
            if item["image_id"] != image["id"]:
                continue
            assert all(type(number) in (int, float) for number in item["bbox"])
            x, y, w, h = item["bbox"]
            boxes.append([x, y, np.float32(x) + np.float32(w), np.float32(y) + np.float32(h)])
            labels.append(names[item["category_id"]])
            flags = [item.get(key) for key in ("difficult", "iscrowd")]
            assert not any(isinstance(flag, (str, list, dict)) for flag in flags)
            difficult.append(any(flag == 1 for flag in flags))
        images.append((image["file_name"], boxes, labels, difficult))
    return images


def check_coco(path: Path) -> bool:
    """Read a file, compare, and return whether it could be read."""
    try:
        truth = coco.read(path)
    except FormatError as error:
        check_line(error, path)
        return False
    assert as_lists(truth) == [
        (file, np.array(boxes, np.float32).reshape(-1, 4).tolist(), labels, difficult)
        for file, boxes, labels, difficult in literal_coco(path)
    ]
    return True


def check_voc(root: Path) -> bool:
    path = root / "Annotations" / "a.xml"
    try:
        truth = voc.read(root, "val")
    except FormatError as error:
        check_line(error, root)
        return False
    tree = ElementTree.fromstring(path.read_bytes())
    expected = []
    for item in tree.findall("object"):
        x1, y1, x2, y2 = (
            float(item.findtext(f"bndbox/{edge}", "")) for edge in ("xmin", "ymin", "xmax", "ymax")
        )
        expected.append([x1 - 1, y1 - 1, x2, y2])
    (image,) = truth.images
    assert image.boxes.tolist() == np.array(expected, np.float32).reshape(-1, 4).tolist()
    names = [item.findtext("name", "").strip() for item in tree.findall("object")]
    assert [list(truth.classes)[label] for label in image.labels] == names
    return True


def as_lists(truth: GroundTruth) -> list[tuple[str, Any, list[str], list[bool]]]:
    classes = list(truth.classes)

    def one(image: AnnotatedImage) -> tuple[str, Any, list[str], list[bool]]:
        labels = [classes[label] for label in image.labels]
        return image.file, image.boxes.tolist(), labels, image.difficult.tolist()

    return [one(image) for image in truth.images]


def check_line(error: FormatError, place: Path) -> None:
    text = str(error)
    assert str(place) in text
    assert "\n" not in text.replace(str(place), "")
    assert len(text) < 400 + len(str(place))


def make_voc(root: Path) -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "Annotations" / "a.xml").write_text(XML)
    (root / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    return root


def test_swapped_values_in_coco(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "truth.json"
    read = 0
    for _ in range(COUNT):
        path.write_text(json.dumps(swap_value(rng, TRUTH)))
        read += check_coco(path)
    assert 0 < read < COUNT


def test_damaged_bytes_in_coco(tmp_path: Path) -> None:
    rng = random.Random(1)
    path = tmp_path / "truth.json"
    for _ in range(COUNT):
        path.write_bytes(damage_bytes(rng, json.dumps(TRUTH).encode()))
        check_coco(path)


def test_damaged_bytes_in_voc(tmp_path: Path) -> None:
    rng = random.Random(2)
    root = make_voc(tmp_path / "tree")
    for _ in range(COUNT):
        (root / "Annotations" / "a.xml").write_bytes(damage_bytes(rng, XML.encode()))
        check_voc(root)


def test_damaged_lists_of_voc(tmp_path: Path) -> None:
    rng = random.Random(3)
    root = make_voc(tmp_path / "tree")
    for _ in range(COUNT):
        (root / "ImageSets" / "Main" / "val.txt").write_bytes(damage_bytes(rng, b"a 1\n"))
        try:
            truth = voc.read(root, "val")
        except FormatError as error:
            check_line(error, root)
        else:
            assert [image.file for image in truth.images] == ["a.jpg"]


def test_damaged_lists_of_ilsvrc(ilsvrc_devkit: Path, tmp_path: Path) -> None:
    rng = random.Random(4)
    kit = tmp_path / "kit"
    names = ("det_lists/val.txt", "ILSVRC2015_det_validation_blacklist.txt")
    for name in names:
        (kit / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        start = (ilsvrc_devkit / "data" / name).read_bytes()[:200].rpartition(b"\n")[0] + b"\n"
        (kit / "data" / name).write_bytes(start)
    for _ in range(COUNT // 3):
        for name, read in zip(names, (ilsvrc._read_list, ilsvrc._read_blacklist), strict=True):
            path = tmp_path / Path(name).name
            path.write_bytes(damage_bytes(rng, (kit / "data" / name).read_bytes()))
            try:
                read(path)
            except FormatError as error:
                check_line(error, path)


@pytest.mark.parametrize("kind", ["hostile", "empty", "text", "folder"])
def test_damaged_kit(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "ground_truth.mat"
    cases = Path(__file__).parents[2] / "cases" / "ilsvrc"
    match kind:
        case "hostile":  # it ends the interpreter that SciPy runs in
            file.write_bytes((cases / "hostile_ground_truth.mat").read_bytes())
        case "folder":
            file.mkdir()
        case _:
            file.write_text("" if kind == "empty" else "text " * 100)
    with pytest.raises(FormatError, match=r"\.mat: (not the kit's|cannot be)") as caught:
        ilsvrc._read_kit_annotations(file)
    check_line(caught.value, file)

"""Annotation files that are damaged, and what a literal reader finds in them.

A file that the program accepts is misread if its ground truth is not what the file literally says:
the values that JSON, XML or the fields of a list have, each of its own type. Where damage makes
another value, as a flipped digit of a box does, that value is right, because nothing in the file
says otherwise. The kit's `.mat` file has checksums, so that damage to its data must be noticed.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from detector.common.text_files import read_text
from detector.datasets import coco, ilsvrc, voc
from detector.datasets.ground_truth import GroundTruth
from tests.support.damage import damage_bytes, swap_value

Item = tuple[str, list[float], bool]
"""An object's class, box as `float32` and difficult flag."""

Truth = list[tuple[str, list[Item]]]
"""Names of images and their objects."""

OTHER_TEXTS = (
    "", "0", "1", "-1", "1.5", "1e400", "nan", "inf", "1_0", "0x1f", "x", "1 2", "\u0661\u0660",
    "<b/>", "4<b/>8", "cat", "n02084071",
)  # fmt: skip
"""What a damaged XML file may have in the place of any text."""

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Kind(NamedTuple):
    """A kind of annotation file.

    Args:
        make: Writes a sound data set into an empty folder.
        file: The file that is damaged, relative to the folder.
        damage: Returns its damaged bytes.
        arguments: Arguments of `detector-eval` for the data set in a folder.
        read: Reads the ground truth of the data set.
        literal: Reads it as the files literally say. It fails where they are not well-formed.
        find: Writes detections of all objects of a ground truth.
    """

    make: Callable[[Path], None]
    file: str
    damage: Callable[[random.Random, bytes], bytes]
    arguments: Callable[[Path], list[str]]
    read: Callable[[Path], Truth]
    literal: Callable[[Path], Truth]
    find: Callable[[Path, Truth], None]


def as_lists(truth: GroundTruth) -> Truth:
    """Return a ground truth in the form in which two are compared."""
    classes = list(truth.classes)
    return [
        (
            image.file,
            [
                (classes[label], box, flag)
                for label, box, flag in zip(
                    image.labels.tolist(),
                    image.boxes.tolist(),
                    image.difficult.tolist(),
                    strict=True,
                )
            ],
        )
        for image in truth.images
    ]


COCO: dict[str, Any] = {
    "images": [
        {"id": 9, "file_name": "b é.jpg", "width": 500, "height": 375},
        {"id": 2, "file_name": "a/1.jpg", "width": 500, "height": 375},
    ],
    "annotations": [
        {"id": 1, "image_id": 2, "category_id": 18, "bbox": [5, 6, 2, 3], "area": 6, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 50.5, 75], "difficult": 1},
        {"id": 3, "image_id": 9, "category_id": 1, "bbox": [90, 9, 40, 75], "iscrowd": 1},
        {"id": 4, "image_id": 9, "category_id": 18, "bbox": [1, 2, 30, 45], "area": None},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
}


def make_coco(root: Path) -> None:
    (root / "truth.json").write_text(json.dumps(COCO))


def coco_arguments(root: Path, rule: str) -> list[str]:
    return ["--coco", f"{root / 'truth.json'}", "--rule", rule, *_detections(root / "dets.json")]


def swap_json(rng: random.Random, data: bytes) -> bytes:
    return json.dumps(swap_value(rng, json.loads(data))).encode()


def damage_text(rng: random.Random, data: bytes) -> bytes:
    """Return text with a flipped bit, a wrong character, or worse damage.

    The first two are often in a number or a name, which then has another value.
    """
    damaged = bytearray(data)
    digits = [place for place, byte in enumerate(data) if chr(byte).isdecimal()]
    place = rng.choice((rng.randrange(len(data)), rng.choice(digits)))
    match rng.choice(("flip", "digit", "character", "worse")):
        case "flip":
            damaged[place] ^= 1 << rng.randrange(8)
        case "digit":
            damaged[place] = rng.choice(b"0123456789")
        case "character":
            damaged[place : place + rng.randrange(2)] = bytes(
                [rng.choice(b"0 -+.,_eE/<\t\r\n\x1c")]
            )
        case _:
            return damage_bytes(rng, data)
    return bytes(damaged)


def literal_coco(root: Path) -> Truth:
    """Read a COCO file value by value. A value of another type is an error."""
    content = json.loads(read_text(root / "truth.json"))
    names = {item["id"]: item["name"] for item in content["categories"]}
    assert all(type(key) is int and type(name) is str for key, name in names.items())
    assert len(names) == len(content["categories"])
    images = []
    for image in content["images"]:
        assert type(image["file_name"]) is str
        assert type(image["width"]) is type(image["height"]) is int
        items = [
            _literal_annotation(item, names)
            for item in content["annotations"]
            if type(item["image_id"]) is type(image["id"]) and item["image_id"] == image["id"]
        ]
        images.append((image["file_name"], items))
    assert sum(len(items) for _, items in images) == len(content["annotations"])
    return images


def _literal_annotation(item: dict[str, Any], names: dict[int, str]) -> Item:
    assert all(type(number) in (int, float) for number in item["bbox"])
    x, y, w, h = (np.float32(number) for number in item["bbox"])
    flags = [item.get(key) or 0 for key in ("difficult", "iscrowd")]
    assert all(type(flag) in (int, float, bool) for flag in flags)
    area = item.get("area")
    assert area is None or type(area) in (int, float)
    assert coco.area(item) == (item["bbox"][2] * item["bbox"][3] if area is None else area)
    box = [float(edge) for edge in (x, y, x + w, y + h)]
    return names[item["category_id"]], box, 1 in flags


VOC_OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
SIZE = "<size><width>500</width><height>375</height></size>"


def make_xml(name: str, *objects: tuple[Any, ...]) -> str:
    """Return an annotation file of VOC or ILSVRC."""
    items = "\n".join(VOC_OBJECT.format(*values) for values in objects)
    return f"<annotation><filename>{name}</filename>{SIZE}\n{items}\n</annotation>"


VOC_IMAGES = ("a", "a 1", "b é")


def make_voc(root: Path) -> None:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name in VOC_IMAGES:
        text = make_xml("old.jpg", ("dog", 1, 48, 240, 195, 371), ("cat", 0, 1, 2.5, 3, 4))
        (root / "Annotations" / f"{name}.xml").write_text(text)
    (root / "ImageSets" / "Main" / "val.txt").write_text("a -1\na 1\nb é\n")


def voc_arguments(root: Path) -> list[str]:
    return ["--voc", "2007", "--data-root", str(root), *_detections(root / "dets.json")]


def literal_voc(root: Path) -> Truth:
    names = []
    for line in _literal_lines(root / "ImageSets" / "Main" / "val.txt"):
        name = line.strip(" \t")
        if name and name not in VOC_IMAGES:
            name = re.sub(r"[ \t]+(-1|0|1)$", "", name)
        names += [name] if name else []
    assert names
    assert len(set(names)) == len(names)
    return [(f"{name}.jpg", literal_xml(root / "Annotations" / f"{name}.xml", 1)) for name in names]


def swap_xml(rng: random.Random, data: bytes) -> bytes:
    """Return XML in which an element has another text, is missing, or is there twice."""
    text = data.decode()
    found = rng.choice(list(re.finditer(r"<(\w+)>[^<>]*</\1>", text)))
    tag = found[1]
    match rng.choice(("text", "text", "text", "missing", "twice")):
        case "text":
            new = f"<{tag}>{rng.choice(OTHER_TEXTS)}</{tag}>"
        case "missing":
            new = ""
        case _:
            new = f"<{tag}>{rng.choice(OTHER_TEXTS)}</{tag}>{found[0]}"
    return f"{text[: found.start()]}{new}{text[found.end() :]}".encode()


def literal_xml(path: Path, first_pixel: int) -> list[Item]:
    """Read an annotation file. An element that is there twice is an error."""
    root = ElementTree.fromstring(path.read_bytes())
    for side in ("width", "height"):
        assert _literal_number(root, f"size/{side}") >= 0
    items = []
    for item in root.findall("object"):
        edges = ("xmin", "ymin", "xmax", "ymax")
        x1, y1, x2, y2 = (_literal_number(item, f"bndbox/{edge}") for edge in edges)
        corners = (x1 - first_pixel, y1 - first_pixel, x2 - first_pixel + 1, y2 - first_pixel + 1)
        flags = [element.text for element in item.findall("difficult")]
        assert len(flags) <= 1
        flag = (flags[0] if flags else None) or "0"
        assert flag.strip() in ("", "0", "1")
        name = _literal_text(item, "name")
        box = np.array(corners, np.float32).tolist()
        items.append((name, box, flag.strip() == "1"))
    return items


def _literal_text(element: ElementTree.Element, path: str) -> str:
    (found,) = element.findall(path)
    assert len(found) == 0
    text = (found.text or "").strip()
    assert text
    return text


def _literal_number(element: ElementTree.Element, path: str) -> float:
    text = _literal_text(element, path)
    assert NUMBER.fullmatch(text)
    return float(text)


def _literal_lines(path: Path) -> list[str]:
    return re.split("\r\n|\r|\n", read_text(path))


KIT_IMAGES = ("ILSVRC2012_val_00000001", "ILSVRC2012_val_00000006", "ILSVRC2013_val_7")
MAT = f"{ilsvrc.VALIDATION}_ground_truth.mat"
BLACKLIST = f"{ilsvrc.VALIDATION}_blacklist.txt"
KIT_CLASSES = ("n02691156", "n02084071")


def make_ilsvrc(root: Path) -> None:
    """Write a tree with a kit in it, which have the same objects."""
    from scipy.io import savemat

    for folder in ("Annotations/DET/val", "ImageSets/DET", "devkit/data/det_lists"):
        (root / folder).mkdir(parents=True)
    for name in KIT_IMAGES:
        text = make_xml(name, ("n02691156", 0, 4, 5, 195, 371), ("n02084071", 0, 1, 2, 3, 4))
        (root / "Annotations" / "DET" / "val" / f"{name}.xml").write_text(text)

    lines = "".join(f"{name} {number}\n" for number, name in enumerate(KIT_IMAGES, start=1))
    (root / "ImageSets" / "DET" / "val.txt").write_text(lines)
    data = root / "devkit" / "data"
    (data / "det_lists" / "val.txt").write_text(lines)
    (data / BLACKLIST).write_text("1 n02691156\n3 n02084071\n")

    boxes = np.empty((1, 3), object)
    labels = np.empty((1, 3), object)
    numbers = {item.wnid: item.number for item in ilsvrc.det_classes()}
    for position in range(3):
        boxes[0, position] = np.array([[4, 1], [5, 2], [195, 3], [371, 4]], np.uint16)
        labels[0, position] = np.array([[numbers[wnid] for wnid in KIT_CLASSES]], np.uint8)
    output = BytesIO()
    ids = np.array([[1], [2], [3]], np.uint16)
    content = {"gt_obj_bboxes": boxes, "gt_obj_labels": labels, "gt_img_ids": ids}
    savemat(output, content, do_compression=True)
    (data / MAT).write_bytes(output.getvalue())


def tree_arguments(root: Path) -> list[str]:
    return ["--ilsvrc-det", "val", "--data-root", str(root), *_detections(root / "dets.txt")]


def kit_arguments(root: Path) -> list[str]:
    kit = str(root / "devkit")
    return ["--ilsvrc-det", "val", "--devkit", kit, *_detections(root / "dets.txt")]


def read_ilsvrc(root: Path, *, from_kit: bool = False) -> Truth:
    """Read the validation set; an object that the blacklist leaves out has the flag."""
    found = ilsvrc.read_validation("val", root=None if from_kit else root, devkit=root / "devkit")
    names = list(found.truth.classes)
    black = {(found.truth.images[image].file, names[label]) for image, label in found.blacklist}
    return [
        (f"{file} {image.image_id}", [(name, box, (file, name) in black) for name, box, _ in items])
        for (file, items), image in zip(as_lists(found.truth), found.truth.images, strict=True)
    ]


def literal_ilsvrc(root: Path, *, from_kit: bool = False) -> Truth:
    """Read the lists and the tree; the kit's objects are those of the sound tree."""
    names = {item.wnid: item.name for item in ilsvrc.det_classes()}
    data = root / "devkit" / "data"
    official = _literal_list(data / "det_lists" / "val.txt")
    listed = official if from_kit else _literal_list(root / "ImageSets" / "DET" / "val.txt")
    assert set(listed) <= set(official)

    black = set()
    for line in _literal_file(data / BLACKLIST):
        found = re.fullmatch(r"[ \t]*([0-9]+)[ \t]+(n\d+)[ \t]*", line, re.ASCII)
        assert found
        (name,) = (name for name, number in official.items() if number == int(found[1]))
        black.add((name, names[found[2]]))

    truth = []
    for name, number in listed.items():
        source = KIT_IMAGES[official[name] - 1] if from_kit else name
        items = literal_xml(root / "Annotations" / "DET" / "val" / f"{source}.xml", 0)
        named = [(names[wnid], box) for wnid, box, _ in items]
        objects = [(label, box, (name, label) in black) for label, box in named]
        truth.append((f"val/{name}.JPEG {number}", objects))
    return truth


def _literal_file(path: Path) -> list[str]:
    lines = _literal_lines(path)
    return lines[:-1] if not lines[-1] else lines


def _literal_list(path: Path) -> dict[str, int]:
    images: dict[str, int] = {}
    for line in _literal_file(path):
        found = re.fullmatch(r"[ \t]*([^ \t]+)[ \t]+([0-9]+)[ \t]*", line, re.ASCII)
        assert found
        assert found[1] not in images
        assert int(found[2]) not in images.values()
        images[found[1]] = int(found[2])
    assert images
    return images


def read_kit(root: Path) -> Truth:
    return read_ilsvrc(root, from_kit=True)


def literal_kit(root: Path) -> Truth:
    return literal_ilsvrc(root, from_kit=True)


def find_native(root: Path, truth: Truth) -> None:
    """Write detections in the native format."""
    images = [
        {
            "file": file,
            "width": 500,
            "height": 375,
            "detections": [{"label": name, "score": 0.5, "box": box} for name, box, _ in items],
        }
        for file, items in truth
    ]
    classes = sorted({name for _, items in truth for name, _, _ in items})
    content = {"format": "detections/1", "classes": classes, "images": images, "failed": []}
    (root / "dets.json").write_text(json.dumps(content))


def find_submission(root: Path, truth: Truth) -> None:
    """Write detections as ILSVRC's submissions have them, with inclusive boxes."""
    numbers = {item.name: item.number for item in ilsvrc.det_classes()}
    lines = [
        f"{file.rpartition(' ')[2]} {numbers[name]} 0.5 {x1} {y1} {x2 - 1} {y2 - 1}\n"
        for file, items in truth
        for name, (x1, y1, x2, y2), _ in items
    ]
    (root / "dets.txt").write_text("".join(lines))


def _detections(path: Path) -> list[str]:
    return ["--detections", str(path)]


def read_coco(root: Path) -> Truth:
    return as_lists(coco.read(root / "truth.json"))


def read_voc(root: Path) -> Truth:
    return as_lists(voc.read(root, "val"))


def by_cocos_rule(root: Path) -> list[str]:
    return coco_arguments(root, "coco")


def by_vocs_rule(root: Path) -> list[str]:
    return coco_arguments(root, "voc2012")


_COCO = (read_coco, literal_coco, find_native)
_VOC = (voc_arguments, read_voc, literal_voc, find_native)
_TREE = (tree_arguments, read_ilsvrc, literal_ilsvrc, find_submission)
_KIT = (kit_arguments, read_kit, literal_kit, find_submission)
_XML = f"Annotations/DET/val/{KIT_IMAGES[1]}.xml"

KINDS = {
    "COCO, values": Kind(make_coco, "truth.json", swap_json, by_cocos_rule, *_COCO),
    "COCO, bytes": Kind(make_coco, "truth.json", damage_text, by_vocs_rule, *_COCO),
    "VOC XML, values": Kind(make_voc, "Annotations/a.xml", swap_xml, *_VOC),
    "VOC XML, bytes": Kind(make_voc, "Annotations/a.xml", damage_text, *_VOC),
    "VOC list": Kind(make_voc, "ImageSets/Main/val.txt", damage_text, *_VOC),
    "ILSVRC XML, values": Kind(make_ilsvrc, _XML, swap_xml, *_TREE),
    "ILSVRC XML, bytes": Kind(make_ilsvrc, _XML, damage_text, *_TREE),
    "ILSVRC list": Kind(make_ilsvrc, "ImageSets/DET/val.txt", damage_text, *_TREE),
    "kit's list": Kind(make_ilsvrc, "devkit/data/det_lists/val.txt", damage_text, *_TREE),
    "kit's blacklist": Kind(make_ilsvrc, f"devkit/data/{BLACKLIST}", damage_text, *_TREE),
    "kit's .mat": Kind(make_ilsvrc, f"devkit/data/{MAT}", damage_bytes, *_KIT),
}
"""All kinds of files, and the damage that is done to them."""

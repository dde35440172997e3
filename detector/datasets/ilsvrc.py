"""Ground truth of ILSVRC's detection task: its tree of photos and annotations, and its kit.

The tree has `Data/DET`, `Annotations/DET` and `ImageSets/DET`, the kit (the "devkit") `data` with
lists of images, the blacklist, and the ground truth of the validation set in one file.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from detector.datasets import annotation_xml
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError

PHOTOS, LISTS = "Data/DET", "ImageSets/DET"
CLASS_TABLE = Path(__file__).with_name("det_classes.csv")

VALIDATION = "ILSVRC2015_det_validation"
OUR_LISTS = {name: Path(__file__).with_name(f"rcnn_{name}.txt") for name in ("val1", "val2")}
"""R-CNN's halves of the validation set (github.com/rbgirshick/rcnn, branch ilsvrc)."""

ORIGIN = (
    "it is part of the ILSVRC2015 or ILSVRC2017 detection kit, which image-net.org gives to "
    "registered users; --devkit DIR or --data-root DIR says where"
)

Split = Literal["val", "val1", "val2"]


class DetClass(NamedTuple):
    """One of the 200 classes."""

    number: int
    """1 to 200."""
    wnid: str
    """WordNet's id, by which annotations name it."""
    name: str
    equal: tuple[str, ...]
    """What VOC and COCO call exactly the same class."""


@cache
def det_classes() -> tuple[DetClass, ...]:
    """The 200 classes, in the order of their numbers."""
    with open(CLASS_TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        DetClass(
            int(row["det_id"]),
            row["wnid"],
            row["det_name"],
            tuple({row["coco80"], row["voc20"]} - {""}) if row["relation"] == "exact" else (),
        )
        for row in rows
    )


@dataclass(frozen=True, eq=False)
class Validation:
    """The validation set, or a part of it.

    Args:
        truth: images in the order of the list, with its numbers, by which submissions name them;
            their names are relative to `Data/DET`.
        blacklist: pairs of an image's position and a label that do not count.
    """

    truth: GroundTruth
    blacklist: frozenset[tuple[int, int]]


def read(root: Path, split: str) -> GroundTruth:
    """The ground truth of a list `ImageSets/DET/SPLIT.txt` of the tree, or of R-CNN's val1 or val2.

    A list of the training set has a folder in each name; where there is none, images are those of
    `val`. In the training set, images without annotations are left out, as are boxes without area,
    of which it has a few.

    Raises:
        FormatError: naming the file that is missing or wrong.
    """
    file = root / LISTS / f"{split}.txt"
    if split in OUR_LISTS and not file.exists():
        return _from_tree(root, _read_list(OUR_LISTS[split]))
    return _from_tree(root, dict.fromkeys(annotation_xml.read_names(file)))


def read_validation(split: Split, *, root: Path | None, devkit: Path | None) -> Validation:
    """The validation set as the official evaluation has it, or one of R-CNN's halves of it.

    Args:
        root: the tree; without it, annotations come from the kit's own file.
        devkit: the kit; if not given, `devkit` in the tree.

    Raises:
        FormatError: naming the file that is missing, where it comes from, or what is wrong in it.
    """
    kit = devkit or (root or Path()) / "devkit"
    official_list = kit / "data" / "det_lists" / "val.txt"
    if split in OUR_LISTS:
        file = OUR_LISTS[split]
    else:
        file = _needed(official_list if root is None else root / LISTS / "val.txt")
    numbers = _read_list(file)
    official = _read_list(_needed(official_list))
    truth = _from_tree(root, numbers) if root else _from_kit(kit, official, numbers)
    positions = {name: position for position, name in enumerate(numbers)}
    names = {number: name for name, number in official.items()}
    blacklist = _needed(kit / "data" / f"{VALIDATION}_blacklist.txt")
    pairs = [(names.get(number), label) for number, label in _read_blacklist(blacklist)]
    return Validation(
        truth,
        frozenset((positions[name], label) for name, label in pairs if name in positions),
    )


def _needed(file: Path) -> Path:
    if not file.is_file():
        raise FormatError(file, f"is not there; {ORIGIN}")
    return file


def _read_list(file: Path) -> dict[str, int]:
    """Names and numbers of a list's images, in its order."""
    numbers: dict[str, int] = {}
    for line_number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if len(fields) != 2 or not fields[1].isdecimal():
            raise FormatError(file, f"must be a name and a number, not {line!r}", line_number)
        if fields[0] in numbers:
            raise FormatError(file, f"{fields[0]} is there twice", line_number)
        numbers[fields[0]] = int(fields[1])
    if len(set(numbers.values())) < len(numbers):
        raise FormatError(file, "two images have the same number")
    return numbers


def _read_blacklist(file: Path) -> list[tuple[int, int]]:
    labels = {item.wnid: label for label, item in enumerate(det_classes())}
    pairs = []
    for line_number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if len(fields) != 2 or not fields[0].isdecimal() or fields[1] not in labels:
            raise FormatError(file, f"must be a number and a synset, not {line!r}", line_number)
        pairs.append((int(fields[0]), labels[fields[1]]))
    return pairs


def _from_tree(root: Path, numbers: Mapping[str, int | None]) -> GroundTruth:
    labels = {item.wnid: label for label, item in enumerate(det_classes())}
    images = []
    for name, number in numbers.items():
        place = _place(name)
        file = root / "Annotations" / "DET" / f"{place}.xml"
        training = place.startswith("train/")
        if training and not file.exists():
            continue
        annotation = annotation_xml.read(file, first_pixel=0, skip_empty=training)
        images.append(annotation.image(f"{place}.JPEG", labels, number))
    return GroundTruth(_classes(), tuple(images))


def _place(name: str) -> str:
    """A name of a list, which may or may not begin with the part of the tree that it is in."""
    if name.split("/")[0] in ("train", "val", "test"):
        return name
    return f"train/{name}" if "/" in name else f"val/{name}"


def _from_kit(
    kit: Path, official: Mapping[str, int], list_numbers: Mapping[str, int]
) -> GroundTruth:
    """The ground truth in the kit's `.mat` file, whose cells are in the order of `val.txt`."""
    from scipy.io import loadmat

    file = _needed(kit / "data" / f"{VALIDATION}_ground_truth.mat")
    try:
        content = loadmat(file)
        boxes, labels = content["gt_obj_bboxes"][0], content["gt_obj_labels"][0]
        numbers = content["gt_img_ids"].ravel().tolist()
    except Exception as error:  # scipy raises many types on damaged files
        raise FormatError(file, f"not the kit's ground truth: {error!r}") from error
    places = {number: place for place, number in enumerate(numbers)}
    images = []
    for name, number in list_numbers.items():
        if official.get(name) not in places:
            raise FormatError(file, f"has no image {name}")
        place = places[official[name]]
        corners = boxes[place].astype(np.float32).reshape(4, -1).T + np.array(
            [0, 0, 1, 1], np.float32
        )
        classes = labels[place].astype(np.int64).ravel() - 1
        none = np.zeros(len(classes), np.bool_)
        images.append(AnnotatedImage(f"val/{name}.JPEG", 0, 0, corners, classes, none, number))
    return GroundTruth(_classes(), tuple(images))


def _classes() -> dict[str, int]:
    return {item.name: item.number for item in det_classes()}

"""Ground truth of ILSVRC's detection task (DET), from its tree of images or from its kit.

The tree has the folders `Data/DET`, `Annotations/DET` and `ImageSets/DET`. The kit (the "devkit")
has a folder `data` with lists of images, the blacklist, and the ground truth of the whole
validation set in one file.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.common.json_fields import short
from detector.common.text_files import is_file, read_bytes, read_lines
from detector.datasets import annotation_xml
from detector.datasets.ground_truth import AnnotatedImage, GroundTruth, is_in_folder
from detector.errors import FormatError
from proposals.types import Boxes

Split = Literal["val", "val1", "val2"]
"""The validation set, or R-CNN's first or second half of it."""

IMAGE_FOLDER = "Data/DET"
"""Folder of the images in the tree."""

LIST_FOLDER = "ImageSets/DET"
"""Folder of the lists of images in the tree."""

CLASS_TABLE = Path(__file__).with_name("det_classes.csv")
"""Table of the 200 classes, with VOC's and COCO's names for them."""

RCNN_LISTS = {name: Path(__file__).with_name(f"rcnn_{name}.txt") for name in ("val1", "val2")}
"""Lists of R-CNN's halves of the validation set (github.com/rbgirshick/rcnn, branch ilsvrc)."""

VALIDATION = "ILSVRC2015_det_validation"
"""Start of the names of the validation set's files in the kit."""

LARGEST_DIGITS = 9
"""Digits of an image's number, at most; the validation set has 20,121 images."""

MAT_READER = Path(__file__).with_name("read_mat.py")
"""The program that reads the kit's `.mat` file."""

MAT_SECONDS = 300
"""Time in which it must be read; the real one takes a second."""

WHERE_TO_GET_IT = (
    "it is part of the ILSVRC2015 or ILSVRC2017 detection kit, which image-net.org gives to "
    "registered users; --devkit DIR or --data-root DIR says where"
)
"""Hint for users who lack a file."""


class DetClass(NamedTuple):
    """One of the 200 classes."""

    number: int
    """1 to 200."""
    wnid: str
    """WordNet's id, which annotations use."""
    name: str
    aliases: tuple[str, ...]
    """VOC's and COCO's names of exactly the same class."""


@dataclass(frozen=True, eq=False)
class Validation:
    """The validation set, or one of R-CNN's halves of it.

    Args:
        truth: Images in the order of the list. Their ids are the numbers that submissions use;
            their names are relative to `Data/DET`.
        blacklist: Pairs of an image's position and a label that are ignored in scores.
    """

    truth: GroundTruth
    blacklist: frozenset[tuple[int, int]]


@cache
def det_classes() -> tuple[DetClass, ...]:
    """Return the 200 classes, in the order of their numbers."""
    with open(CLASS_TABLE, encoding="utf-8", newline="") as file:
        return tuple(_parse_class(row) for row in csv.DictReader(file))


def read(root: Path, split: str) -> GroundTruth:
    """Read the ground truth of a list of images of the tree.

    The list is `ImageSets/DET/SPLIT.txt`; for "val1" and "val2" it is R-CNN's if the tree has none.
    Names in lists of the training set have a folder; names without one are images of `val`.

    In the training set, images without a file of annotations are left out, and so are boxes
    without area. The official data has a few of both.

    Args:
        root: Folder of the tree.
        split: Name of the list.

    Returns:
        The ground truth. Names of images are relative to `Data/DET`.

    Raises:
        FormatError: A file is missing or wrong.
    """
    file = root / LIST_FOLDER / f"{split}.txt"
    if split in RCNN_LISTS and not is_file(file):
        return _read_tree(root, _read_list(RCNN_LISTS[split]))
    return _read_tree(root, dict.fromkeys(_read_names(file)), skip_faults=True)


def source_folders(root: Path | None, devkit: Path | None) -> tuple[Path, ...]:
    """Return the folders that hold what was given, so that no output belongs there.

    Args:
        root: Folder of the tree.
        devkit: Folder of the kit; by default `devkit` in the tree.
    """
    tree = [root / name for name in ("Annotations", "Data", "ImageSets")] if root else []
    return (*tree, (devkit or (root or Path()) / "devkit") / "data")


def read_validation(split: Split, *, root: Path | None, devkit: Path | None) -> Validation:
    """Read the validation set as the official evaluation defines it.

    Args:
        split: The whole set, or one of R-CNN's halves.
        root: Folder of the tree. Without it, annotations are read from the kit.
        devkit: Folder of the kit; by default `devkit` in the tree.

    Raises:
        FormatError: A file is missing or wrong. If it is missing, the error says where it comes
            from.
    """
    kit = devkit or (root or Path()) / "devkit"
    official_list = kit / "data" / "det_lists" / "val.txt"

    # The list determines the images, their order, and the numbers that submissions use.
    if split in RCNN_LISTS:
        list_file = RCNN_LISTS[split]
    else:
        list_file = _require(official_list if root is None else root / LIST_FOLDER / "val.txt")
    image_ids = _read_list(list_file)

    # The kit's other files use the numbers of the official list.
    official_ids = _read_list(_require(official_list))
    unknown = next((name for name in image_ids if name not in official_ids), None)
    if unknown is not None:
        # The blacklist would not hold for it.
        raise FormatError(list_file, f"{short(unknown)} is not in the kit's list {official_list}")
    truth = _read_tree(root, image_ids) if root else _read_kit(kit, official_ids, image_ids)

    positions = {name: position for position, name in enumerate(image_ids)}
    names = {image_id: name for name, image_id in official_ids.items()}
    blacklist_file = _require(kit / "data" / f"{VALIDATION}_blacklist.txt")
    pairs = _read_blacklist(blacklist_file, names)
    blacklist = frozenset((positions[name], label) for name, label in pairs if name in positions)
    return Validation(truth, blacklist)


def _parse_class(row: Mapping[str, str]) -> DetClass:
    """Make a class from a row of the table."""
    is_same_class = row["relation"] == "exact"
    aliases = tuple({row["coco80"], row["voc20"]} - {""}) if is_same_class else ()
    return DetClass(int(row["det_id"]), row["wnid"], row["det_name"], aliases)


def _require(file: Path) -> Path:
    """Return a file of the kit or the tree, and raise `FormatError` if it is missing."""
    if not is_file(file):
        raise FormatError(file, f"is not there; {WHERE_TO_GET_IT}")
    return file


def _fields(line: str) -> list[str]:
    """Return what spaces and tabs separate in a line; other spaces can be part of a name."""
    return re.split("[ \t]+", line.strip(" \t"))


def _is_number(text: str) -> bool:
    """Return whether a text is the number of an image."""
    return text.isascii() and text.isdecimal() and len(text) <= LARGEST_DIGITS


def _read_names(file: Path) -> list[str]:
    """Read the names in a list of images, each alone in its line or followed by a number.

    Lists of the training set that are put together name some images more than once.

    Raises:
        FormatError: The list cannot be read, is empty, or has another line.
    """
    names = []
    for line_number, line in enumerate(read_lines(file), start=1):
        name, *numbers = _fields(line)
        if len(numbers) > 1 or not all(_is_number(text.removeprefix("-")) for text in numbers):
            raise FormatError(
                file, f"must be a name or a name and a number, not {short(line)}", line_number
            )
        _check_in_tree(file, name, line_number)
        names.append(name)

    names = list(filter(None, names))
    if not names:
        raise FormatError(file, "lists no image")
    return names


def _read_list(file: Path) -> dict[str, int]:
    """Read the numbers of a list's images by name, in the order of the list."""
    names: dict[int, str] = {}
    image_ids: dict[str, int] = {}
    for line_number, line in enumerate(read_lines(file), start=1):
        fields = _fields(line)
        if len(fields) != 2 or not _is_number(fields[1]):
            raise FormatError(file, f"must be a name and a number, not {short(line)}", line_number)
        name = fields[0]
        number = int(fields[1])
        _check_in_tree(file, name, line_number)
        if name in image_ids:
            raise FormatError(file, f"{short(name)} is listed twice", line_number)
        if number in names:
            message = f"{short(name)} has the number of {short(names[number])}: {number}"
            raise FormatError(file, message, line_number)
        names[number] = name
        image_ids[name] = number

    if not image_ids:
        raise FormatError(file, "lists no image")
    return image_ids


def _read_blacklist(file: Path, names: Mapping[int, str]) -> list[tuple[str, int]]:
    """Read the pairs of an image's name and a label that are ignored in scores.

    Args:
        file: The list.
        names: Names of the images by official number.
    """
    labels = _labels_by_wnid()
    pairs = []
    for line_number, line in enumerate(read_lines(file), start=1):
        fields = _fields(line)
        if len(fields) != 2 or not _is_number(fields[0]) or fields[1] not in labels:
            message = f"must be a number and a synset, not {short(line)}"
            raise FormatError(file, message, line_number)
        number = int(fields[0])
        if number not in names:
            raise FormatError(file, f"there is no image {number} in the kit's list", line_number)
        pairs.append((names[number], labels[fields[1]]))

    if not pairs:
        raise FormatError(file, "lists nothing, but the kit's own has pairs")
    return pairs


def _read_tree(
    root: Path, image_ids: Mapping[str, int | None], *, skip_faults: bool = False
) -> GroundTruth:
    """Read the annotations of a list's images from the tree.

    Args:
        root: Folder of the tree.
        image_ids: Numbers of the images by name.
        skip_faults: Leave out images of the training set without a file of annotations, and boxes
            without area. By default they are an error, and the images are those of the list.
    """
    labels = _labels_by_wnid()
    images = []
    for name, image_id in image_ids.items():
        path = _path_in_tree(name)
        file = root / "Annotations" / "DET" / f"{path}.xml"
        may_skip = skip_faults and path.startswith("train/")
        if may_skip and not is_file(file):
            continue
        annotation = annotation_xml.read(file, first_pixel=0, skip_empty=may_skip)
        images.append(annotation.to_image(f"{path}.JPEG", labels, image_id))
    return GroundTruth(_class_ids(), tuple(images))


def _check_in_tree(file: Path, name: str, line_number: int) -> None:
    if not is_in_folder(name):
        raise FormatError(file, f"{short(name)} must be in the tree, without ..", line_number)


def _path_in_tree(name: str) -> str:
    """Return the path of a listed image, without suffix: lists leave out `train/` or `val/`."""
    if name.split("/")[0] in ("train", "val", "test"):
        return name
    return f"train/{name}" if "/" in name else f"val/{name}"


def _read_kit(
    kit: Path, official_ids: Mapping[str, int], image_ids: Mapping[str, int]
) -> GroundTruth:
    """Read the annotations of a list's images from the kit's `.mat` file.

    Args:
        kit: Folder of the kit.
        official_ids: Numbers of the images by name, which the file uses.
        image_ids: Numbers of the list's images by name, which become their ids.
    """
    file = _require(kit / "data" / f"{VALIDATION}_ground_truth.mat")
    content = _read_kit_annotations(file)
    images = []
    for name, image_id in image_ids.items():
        found = content.get(official_ids.get(name))
        if found is None:
            raise FormatError(file, f"has no image {name}")

        boxes, labels = found
        difficult = np.zeros(len(labels), np.bool_)
        # The file does not have the images' sizes.
        path = f"val/{name}.JPEG"
        images.append(AnnotatedImage(path, 0, 0, boxes, labels, difficult, image_id))
    return GroundTruth(_class_ids(), tuple(images))


def _read_kit_annotations(file: Path) -> dict[int | None, tuple[Boxes, NDArray[np.int64]]]:
    """Read the boxes and labels of all images of the kit's `.mat` file, by official number."""
    import scipy  # noqa: F401 - the reader needs it; its absence is an error of its own

    read_bytes(file)  # for the errors of files that cannot be read
    reader = [sys.executable, "-P", str(MAT_READER), str(file)]  # -P: no imports from its folder
    try:
        done = subprocess.run(reader, capture_output=True, timeout=MAT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise FormatError(file, f"is not read within {MAT_SECONDS} s") from error
    if done.returncode < 0:
        raise FormatError(file, "not the kit's ground truth: it is damaged, SciPy crashes on it")
    if done.returncode > 0:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise FormatError(file, f"not the kit's ground truth: {reason}")

    arrays = np.load(BytesIO(done.stdout), allow_pickle=False)
    labels = arrays["labels"] - 1
    corners = arrays["boxes"].T
    if not (((labels >= 0) & (labels < len(det_classes()))).all() and _are_boxes(corners)):
        raise FormatError(file, "not the kit's ground truth: a box or a label is no such thing")

    if len(np.unique(arrays["ids"])) < len(arrays["ids"]):
        raise FormatError(file, "not the kit's ground truth: two images have the same number")

    boxes = (corners + np.array([0, 0, 1, 1])).astype(np.float32)  # the maxima are inclusive
    ends = np.cumsum(arrays["counts"])[:-1]
    each = zip(np.split(boxes, ends), np.split(labels, ends), strict=True)
    return dict(zip(arrays["ids"].tolist(), each, strict=True))


def _are_boxes(corners: NDArray[np.float64]) -> bool:
    """Return whether corners `[N, 4]`, with inclusive maxima, are those of boxes in images."""
    is_small = np.abs(corners) <= annotation_xml.LARGEST_NUMBER  # false for NaN
    return bool(is_small.all() and (corners[:, :2] <= corners[:, 2:]).all())


def _class_ids() -> dict[str, int]:
    return {item.name: item.number for item in det_classes()}


def _labels_by_wnid() -> dict[str, int]:
    return {item.wnid: label for label, item in enumerate(det_classes())}

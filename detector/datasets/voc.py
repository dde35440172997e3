"""Ground truth in PASCAL VOC's tree: `JPEGImages`, `Annotations` and `ImageSets/Main`."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

from detector.common.json_fields import short
from detector.common.text_files import is_file, read_lines
from detector.datasets import annotation_xml
from detector.datasets.ground_truth import GroundTruth, is_in_folder
from detector.errors import FormatError
from detector.images import SUFFIXES

IMAGE_FOLDER = "JPEGImages"
"""Folder of the images in the tree."""

ANNOTATION_FOLDER = "Annotations"
"""Folder of the annotations in the tree."""

LIST_FOLDER = "ImageSets/Main"
"""Folder of the lists of images in the tree."""

FLAGGED = re.compile(r"(.+?)[ \t]+(?:-1|0|1)")
"""A line of a list of one class: a name, and whether the class is absent, difficult, or present."""

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""VOC's classes, in the order of their ids."""


def read(root: Path, split: str) -> GroundTruth:
    """Read the ground truth of a split.

    Classes are VOC's twenty, with ids from 1 to 20. If the tree has other classes, as those of
    annotation tools do, the classes are those of the split, in alphabetical order.

    Args:
        root: Folder of the tree.
        split: Name of a list of images: "train", "val", "trainval" or "test".

    Returns:
        The ground truth. Names of images are relative to `JPEGImages`.

    Raises:
        FormatError: A file is missing or wrong.
    """
    names = _read_names(root, split)
    annotations = [
        annotation_xml.read(root / ANNOTATION_FOLDER / f"{name}.xml", first_pixel=1)
        for name in names
    ]

    present = {item.name for annotation in annotations for item in annotation.objects}
    classes = CLASSES if present <= set(CLASSES) else tuple(sorted(present))
    labels = {name: label for label, name in enumerate(classes)}

    images = (
        annotation.to_image(_image_name(root, name, annotation.file), labels)
        for name, annotation in zip(names, annotations, strict=True)
    )
    return GroundTruth({name: label + 1 for name, label in labels.items()}, tuple(images))


def source_folders(root: Path) -> tuple[Path, ...]:
    """Return the folders of a tree that hold what was given, so that no output belongs there."""
    return tuple(root / name for name in (ANNOTATION_FOLDER, IMAGE_FOLDER, "ImageSets"))


def _read_names(root: Path, split: str) -> list[str]:
    """Return the names in a list of images, which are those of annotation files without suffix.

    In VOC's lists for one class, a flag follows the name. A name may have spaces.

    Raises:
        FormatError: The list cannot be read, is empty, or names an image twice.
    """
    file = root / LIST_FOLDER / f"{split}.txt"
    numbers: dict[str, int] = {}
    for number, line in enumerate(read_lines(file), start=1):
        name = line.strip(" \t")
        if not name:
            continue

        flagged = FLAGGED.fullmatch(name)
        if flagged and not is_file(root / ANNOTATION_FOLDER / f"{name}.xml"):
            name = flagged[1]
        if not is_in_folder(name):
            raise FormatError(file, f"{short(name)} must be in the tree, without ..", number)
        if name in numbers:
            raise FormatError(
                file, f"{short(name)} is listed twice, first in {numbers[name]}", number
            )
        numbers[name] = number

    if not numbers:
        raise FormatError(file, "lists no image")
    return list(numbers)


def _image_name(root: Path, name: str, stated: str) -> str:
    """Return the name of the image of a list's entry, with its suffix.

    VOC's images are `JPEGImages/NAME.jpg`. What annotations say is often out of date, so it counts
    only for the suffix of an image that is not a `.jpg`, and only if there is no such file.

    Args:
        root: Folder of the tree.
        name: The entry of the list.
        stated: The image's name in the annotation.
    """
    folder = root / IMAGE_FOLDER
    suffixes = [".jpg", *sorted(SUFFIXES), *sorted(map(str.upper, SUFFIXES))]
    if folder.is_dir():
        for suffix in suffixes:
            if is_file(folder / f"{name}{suffix}"):
                return f"{name}{suffix}"

    suffix = PurePath(stated).suffix
    is_same = PurePath(stated).stem == PurePath(name).name and suffix.lower() in SUFFIXES
    return f"{name}{suffix if is_same else '.jpg'}"

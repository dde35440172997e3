"""Ground truth in PASCAL VOC's tree: `JPEGImages`, `Annotations` and `ImageSets/Main`."""

from __future__ import annotations

from pathlib import Path

from detector.datasets import annotation_xml
from detector.datasets.ground_truth import GroundTruth

IMAGE_FOLDER = "JPEGImages"
"""Folder of the images in the tree."""

ANNOTATION_FOLDER = "Annotations"
"""Folder of the annotations in the tree."""

LIST_FOLDER = "ImageSets/Main"
"""Folder of the lists of images in the tree."""

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
    annotations = [
        annotation_xml.read(root / ANNOTATION_FOLDER / f"{name}.xml", first_pixel=1)
        for name in annotation_xml.read_names(root / LIST_FOLDER / f"{split}.txt")
    ]

    present = {item.name for annotation in annotations for item in annotation.objects}
    classes = CLASSES if present <= set(CLASSES) else tuple(sorted(present))
    labels = {name: label for label, name in enumerate(classes)}

    images = (annotation.to_image(_file_name(annotation), labels) for annotation in annotations)
    return GroundTruth({name: label + 1 for name, label in labels.items()}, tuple(images))


def source_folders(root: Path) -> tuple[Path, ...]:
    """Return the folders of a tree that hold what was given, so that no output belongs there."""
    return tuple(root / name for name in (ANNOTATION_FOLDER, IMAGE_FOLDER, "ImageSets"))


def _file_name(annotation: annotation_xml.Annotation) -> str:
    """Return the name of an image with its suffix, which some annotations leave out."""
    return annotation.file if Path(annotation.file).suffix else f"{annotation.file}.jpg"

"""Ground truth in PASCAL VOC's tree: `JPEGImages`, `Annotations`, `ImageSets/Main`."""

from __future__ import annotations

from pathlib import Path

from detector.datasets import annotation_xml
from detector.datasets.ground_truth import GroundTruth

PHOTOS, LISTS = "JPEGImages", "ImageSets/Main"
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


def read(root: Path, split: str) -> GroundTruth:
    """The ground truth of a split ("train", "val", "trainval", "test").

    Classes are VOC's twenty, with the ids 1 to 20. A tree that has others, as annotation tools
    write it, is read with its own, in alphabetical order. Images are relative to `JPEGImages`.

    Raises:
        FormatError: naming the file that is missing or wrong.
    """
    annotations = [
        annotation_xml.read(root / "Annotations" / f"{name}.xml", first_pixel=1)
        for name in annotation_xml.read_names(root / LISTS / f"{split}.txt")
    ]
    found = {name for annotation in annotations for name in annotation.names}
    classes = CLASSES if found <= set(CLASSES) else tuple(sorted(found))
    labels = {name: label for label, name in enumerate(classes)}
    images = (annotation.image(_file(annotation), labels) for annotation in annotations)
    return GroundTruth({name: label + 1 for name, label in labels.items()}, tuple(images))


def _file(annotation: annotation_xml.Annotation) -> str:
    return annotation.file if Path(annotation.file).suffix else f"{annotation.file}.jpg"

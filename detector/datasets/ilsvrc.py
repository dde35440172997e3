"""Ground truth in the tree of ILSVRC's detection task: `DET` in `Data` and `Annotations`."""

from __future__ import annotations

import csv
from pathlib import Path

from detector.datasets import annotation_xml
from detector.datasets.ground_truth import GroundTruth

PHOTOS = "Data/DET"
CLASS_TABLE = Path(__file__).with_name("det_classes.csv")


def read(root: Path, split: str) -> GroundTruth:
    """The ground truth of a list `ImageSets/DET/SPLIT.txt`: "val", or one of one's own.

    The 200 classes have the official ids and the names of the class table; annotations give
    WordNet ids. Images are relative to `Data/DET`. A list of the training set has a folder in
    each name; where there is none, images are those of `val`.

    Raises:
        FormatError: naming the file that is missing or wrong.
    """
    with open(CLASS_TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = {row["wnid"]: label for label, row in enumerate(rows)}
    images = []
    for name in annotation_xml.read_names(root / "ImageSets" / "DET" / f"{split}.txt"):
        place = name if "/" in name else f"val/{name}"
        annotation = annotation_xml.read(
            root / "Annotations" / "DET" / f"{place}.xml", first_pixel=0
        )
        images.append(annotation.image(f"{place}.JPEG", labels))
    return GroundTruth({row["det_name"]: int(row["det_id"]) for row in rows}, tuple(images))

"""Writing COCO's results."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.errors import FormatError
from detector.formats import coco
from detector.formats.image_lists import ImageList
from detector.formats.records import Entry, Failure, Header
from detector.results import Detection

HEADER = Header({}, {}, ("cat", "dog"))
FAILURE = Failure("c.jpg", "empty-image", "is empty")
DOG = Detection("dog", 0.931204, (48.0, 240.0, 195.0, 371.0))
CAT = Detection("cat", 0.05, (0.0, 0.0, 500.0, 375.0))
ENTRY = Entry("a/b.jpg", 500, 375, {}, (DOG, CAT))
NUMBERED = ImageList.from_files(["a/b.jpg", "c.jpg"])
FILE_NAMES = st.binary().filter(lambda name: b"\0" not in name).map(os.fsdecode)


def write_and_read(
    path: Path, records: list[Entry | Failure], image_list: ImageList = NUMBERED
) -> Any:
    """Write records to a file and return its JSON."""
    coco.write(path, HEADER, records, image_list)
    return json.loads(path.read_bytes())


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([], id="no images"),
        pytest.param([FAILURE], id="a failure"),
        pytest.param([Entry("a/b.jpg", 500, 375, {}, ())], id="an image without objects"),
    ],
)
def test_without_detections_the_list_is_empty(
    records: list[Entry | Failure], tmp_path: Path
) -> None:
    assert write_and_read(tmp_path / "dets.json", records) == []


def test_results_follow_the_format(tmp_path: Path) -> None:
    assert write_and_read(tmp_path / "dets.json", [FAILURE, ENTRY]) == [
        {
            "image_id": 1,
            "category_id": 2,
            "bbox": [48.0, 240.0, 147.0, 131.0],
            "score": 0.931204,
            "file_name": "a/b.jpg",
        },
        {
            "image_id": 1,
            "category_id": 1,
            "bbox": [0.0, 0.0, 500.0, 375.0],
            "score": 0.05,
            "file_name": "a/b.jpg",
        },
    ]


def test_ids_come_from_the_image_list(tmp_path: Path) -> None:
    ids = ImageList({"b.jpg": 139}, {"cat": 17, "dog": 18})
    results = write_and_read(tmp_path / "dets.json", [ENTRY], ids)
    assert [(item["image_id"], item["category_id"]) for item in results] == [(139, 18), (139, 17)]


@pytest.mark.parametrize(
    ("image_list", "message"),
    [
        pytest.param(ImageList({}, {}, "val.txt"), "val.txt: has no image a/b.jpg", id="image"),
        pytest.param(
            ImageList({"b.jpg": 1}, {"cat": 17}, "val.json"),
            "val.json: has no category dog",
            id="class",
        ),
    ],
)
def test_images_and_classes_without_an_id_are_refused(
    image_list: ImageList, message: str, tmp_path: Path
) -> None:
    with pytest.raises(FormatError) as caught:
        write_and_read(tmp_path / "dets.json", [ENTRY], image_list)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


@given(st.lists(FILE_NAMES.map(lambda name: f"{name}.jpg"), min_size=1, max_size=4, unique=True))
@settings(max_examples=50)
def test_any_file_name_is_written(names: list[str]) -> None:
    entries: list[Entry | Failure] = [Entry(name, 500, 375, {}, (DOG,)) for name in names]
    with tempfile.TemporaryDirectory() as folder:
        results = write_and_read(Path(folder) / "dets.json", entries, ImageList.from_files(names))
    assert [item["file_name"] for item in results] == names
    assert [item["image_id"] for item in results] == list(range(1, len(names) + 1))


def make_data_set() -> tuple[list[Entry | Failure], dict[str, Any]]:
    """Return detections in two images, and a ground truth in COCO's format that equals them."""
    rng = np.random.default_rng(0)
    category_ids = {"cat": 17, "dog": 18}
    entries: list[Entry | Failure] = []
    truth: dict[str, Any] = {
        "info": {},
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": name} for name, number in category_ids.items()],
    }
    for image_id in (5, 9):
        detections = []
        for _ in range(6):
            x1, y1 = rng.integers(0, 200, 2).tolist()
            width, height = rng.integers(1, 100, 2).tolist()
            label = str(rng.choice(HEADER.classes))
            box = (float(x1), float(y1), float(x1 + width), float(y1 + height))
            detections.append(Detection(label, float(rng.random()), box))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": category_ids[label],
                    "bbox": [x1, y1, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )

        file = f"{image_id}.jpg"
        truth["images"].append({"id": image_id, "file_name": file, "width": 300, "height": 300})
        entries.append(Entry(file, 300, 300, {}, tuple(detections)))
    return entries, truth


def test_pycocotools_reads_the_same_boxes(tmp_path: Path) -> None:
    """Detections that equal the ground truth have an average precision of 1 at every IoU."""
    entries, truth = make_data_set()
    annotations = tmp_path / "truth.json"
    annotations.write_text(json.dumps(truth), encoding="utf-8")
    write_and_read(tmp_path / "dets.json", entries, ImageList.read(annotations))

    reference = COCO(str(annotations))
    evaluation = COCOeval(reference, reference.loadRes(str(tmp_path / "dets.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)  # mean over IoU 0.5 to 0.95

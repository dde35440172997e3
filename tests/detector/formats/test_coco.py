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
COUNTED = ImageList.from_files(["a/b.jpg", "c.jpg"])
FILE_NAMES = st.binary().filter(lambda name: b"\0" not in name).map(os.fsdecode)


def written(path: Path, records: list[Entry | Failure], image_list: ImageList = COUNTED) -> Any:
    coco.write(path, HEADER, records, image_list)
    return json.loads(path.read_bytes())


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([], id="nothing"),
        pytest.param([FAILURE], id="a failure"),
        pytest.param([Entry("a/b.jpg", 500, 375, {}, ())], id="an image without objects"),
    ],
)
def test_no_results(records: list[Entry | Failure], tmp_path: Path) -> None:
    assert written(tmp_path / "dets.json", records) == []


def test_results_are_as_the_format_says(tmp_path: Path) -> None:
    assert written(tmp_path / "dets.json", [FAILURE, ENTRY]) == [
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


def test_ids_are_the_image_list_s(tmp_path: Path) -> None:
    ids = ImageList({"b.jpg": 139}, {"cat": 17, "dog": 18})
    results = written(tmp_path / "dets.json", [ENTRY], ids)
    assert [(item["image_id"], item["category_id"]) for item in results] == [(139, 18), (139, 17)]


@pytest.mark.parametrize(
    ("image_list", "problem"),
    [
        pytest.param(ImageList({}, {}, "val.txt"), "val.txt: has no image a/b.jpg", id="image"),
        pytest.param(
            ImageList({"b.jpg": 1}, {"cat": 17}, "val.json"),
            "val.json: has no category dog",
            id="class",
        ),
    ],
)
def test_what_the_image_list_lacks(image_list: ImageList, problem: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        written(tmp_path / "dets.json", [ENTRY], image_list)
    assert str(caught.value) == problem
    assert list(tmp_path.iterdir()) == []


@given(st.lists(FILE_NAMES.map(lambda name: f"{name}.jpg"), min_size=1, max_size=4, unique=True))
@settings(max_examples=50)
def test_file_names(names: list[str]) -> None:
    entries: list[Entry | Failure] = [Entry(name, 500, 375, {}, (DOG,)) for name in names]
    with tempfile.TemporaryDirectory() as folder:
        results = written(Path(folder) / "dets.json", entries, ImageList.from_files(names))
    assert [item["file_name"] for item in results] == names
    assert [item["image_id"] for item in results] == list(range(1, len(names) + 1))


def test_pycocotools_reads_the_boxes_where_the_objects_are(tmp_path: Path) -> None:
    """Detections that equal the truth have an average precision of 1 at every IoU."""
    rng = np.random.default_rng(0)
    entries: list[Entry | Failure] = []
    truth: dict[str, Any] = {
        "info": {},
        "images": [],
        "annotations": [],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
    }
    for number in (5, 9):
        found = []
        for _ in range(6):
            x1, y1 = rng.integers(0, 200, 2).tolist()
            width, height = rng.integers(1, 100, 2).tolist()
            label = str(rng.choice(HEADER.classes))
            box = (float(x1), float(y1), float(x1 + width), float(y1 + height))
            found.append(Detection(label, float(rng.random()), box))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": number,
                    "category_id": {"cat": 17, "dog": 18}[label],
                    "bbox": [x1, y1, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
        truth["images"].append(
            {"id": number, "file_name": f"{number}.jpg", "width": 300, "height": 300}
        )
        entries.append(Entry(f"{number}.jpg", 300, 300, {}, tuple(found)))
    annotations = tmp_path / "truth.json"
    annotations.write_text(json.dumps(truth), encoding="utf-8")
    written(tmp_path / "dets.json", entries, ImageList.read(annotations))
    reference = COCO(str(annotations))
    evaluation = COCOeval(reference, reference.loadRes(str(tmp_path / "dets.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)  # mean over IoU 0.5 to 0.95

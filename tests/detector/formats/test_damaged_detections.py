"""Damaged detections end in one line, or are read as they stand in the file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from detector.common.text_files import read_text
from detector.errors import FormatError, MissingProposals
from detector.formats import coco, native, voc
from detector.formats.image_lists import ImageList
from detector.formats.proposals import ProposalsFile
from tests.support.damage import damage_bytes, swap_value

COUNT = 150
"""Damaged files of each kind here; `benchmarks/damaged_files.py` tries thousands."""

NATIVE: dict[str, Any] = {
    "format": "detections/1",
    "classes": ["cat"],
    "images": [
        {
            "file": "a.jpg",
            "width": 50,
            "height": 40,
            "detections": [{"label": "cat", "score": 0.5, "box": [1, 2, 30.5, 40]}],
        },
        {"file": "b.jpg", "width": 5, "height": 4, "detections": []},
    ],
    "failed": [],
}
RESULTS = [{"image_id": 3, "category_id": 1, "bbox": [1, 2, 30.5, 40], "score": 0.5}]
PROPOSALS = {
    "file": "a.jpg",
    "width": 50,
    "height": 40,
    "boxes": [[1, 2, 30, 40], [5, 5, 9, 9]],
    "scores": [0.5, 1],
    "sources": ["multibox", "multibox"],
}
LIST = {
    "images": [{"id": 3, "file_name": "a.jpg"}, {"id": 4, "file_name": "b.jpg"}],
    "categories": [{"id": 1, "name": "cat"}],
}


def check_line(error: Exception) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 600


def check_native(path: Path) -> bool:
    try:
        _, entries = native.read(path)
    except FormatError as error:
        check_line(error)
        return False
    content = json.loads(read_text(path))
    assert [entry.file for entry in entries] == [image["file"] for image in content["images"]]
    for entry, image in zip(entries, content["images"], strict=True):
        found = image["detections"]
        expected = [(d["label"], float(d["score"]), tuple(map(float, d["box"]))) for d in found]
        assert [tuple(detection) for detection in entry.detections] == expected
    return True


def check_results(path: Path) -> bool:
    try:
        results = coco.read(path)
    except FormatError as error:
        check_line(error)
        return False
    expected = [
        (r["image_id"], r["category_id"], float(r["score"]), tuple(map(float, r["bbox"])))
        for r in json.loads(read_text(path))
    ]
    assert [tuple(result) for result in results] == expected
    return True


def check_proposals(path: Path) -> bool:
    try:
        proposals = ProposalsFile(path).get("a.jpg", 50, 40)
    except (FormatError, MissingProposals) as error:
        check_line(error)
        return False
    content = json.loads(path.read_bytes().splitlines()[0])
    assert proposals.boxes.tolist() == sorted(content["boxes"])
    return True


def check_list(path: Path) -> bool:
    try:
        image_list = ImageList.read(path)
    except FormatError as error:
        check_line(error)
        return False
    for item in json.loads(read_text(path))["images"]:
        assert image_list.image_ids[item["file_name"]] == item["id"]
    return True


KINDS = (
    (NATIVE, check_native),
    (RESULTS, check_results),
    (PROPOSALS, check_proposals),
    (LIST, check_list),
)


def test_swapped_values(tmp_path: Path) -> None:
    rng = random.Random(0)
    for content, check in KINDS:
        path = tmp_path / "dets.json"
        read = 0
        for _ in range(COUNT):
            path.write_text(json.dumps(swap_value(rng, content)))
            read += check(path)
        assert read < COUNT


def test_damaged_bytes(tmp_path: Path) -> None:
    rng = random.Random(1)
    for content, check in KINDS:
        path = tmp_path / "dets.json"
        for _ in range(COUNT):
            path.write_bytes(damage_bytes(rng, json.dumps(content).encode()))
            check(path)


def test_damaged_bytes_in_vocs_files(tmp_path: Path) -> None:
    rng = random.Random(2)
    path = tmp_path / "comp4_det_test_cat.txt"
    for _ in range(COUNT):
        path.write_bytes(damage_bytes(rng, b"a 0.5 1 2 30.5 40\nb 0.25 5 6 7 8\n"))
        try:
            rows = voc.read(tmp_path, ["a.jpg", "b.jpg"], {"cat": 0})
        except FormatError as error:
            check_line(error)
        else:
            assert all(row[0] in {0, 1} for row in rows)

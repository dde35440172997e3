"""Damaged detections end in one line, or are read as they stand in the file."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from detector.common.text_files import read_lines, read_text
from detector.errors import FormatError, MissingProposals
from detector.formats import coco, ilsvrc, native, voc
from detector.formats.image_lists import ImageList
from detector.formats.proposals import ProposalsFile
from tests.support.damage import damage_bytes, swap_value

COUNT = 150
"""Damaged files of each kind here; `benchmarks/damaged_detections.py` tries thousands."""


class Kind(NamedTuple):
    """A kind of files that are damaged."""

    file: str
    content: Any
    """JSON, or lines of text."""
    check: Callable[[Path], bool]
    """Reads a damaged file, checks what is read literally, and returns whether it was read."""

    @property
    def sound(self) -> bytes:
        """The bytes of the sound file."""
        is_text = isinstance(self.content, str)
        return (self.content if is_text else json.dumps(self.content)).encode()

    def damaged(self, rng: random.Random) -> bytes:
        """Return damaged bytes, or JSON with a value of another type."""
        if not isinstance(self.content, str) and rng.random() < 0.5:
            return json.dumps(swap_value(rng, self.content)).encode()
        return damage_bytes(rng, self.sound)


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


def check_lines(path: Path) -> bool:
    try:
        image_list = ImageList.read(path)
    except FormatError as error:
        check_line(error)
        return False
    pairs = [line.rsplit(maxsplit=1) for line in read_lines(path)]
    assert image_list.image_ids == {name.strip(): int(number) for name, number in pairs}
    return True


def check_voc(path: Path) -> bool:
    try:
        rows = voc.read(path.parent, ["a.jpg", "b.jpg"], {"cat": 0})
    except FormatError as error:
        check_line(error)
        return False
    expected = []
    for name, *fields in map(str.split, filter(str.strip, read_lines(path))):
        score, x1, y1, x2, y2 = map(float, fields)
        expected.append(({"a": 0, "b": 1}[name], 0, score, x1 - 1, y1 - 1, x2, y2))
    assert rows == expected
    return True


def check_submission(path: Path) -> bool:
    try:
        images, labels, scores, boxes = ilsvrc.read(path, [7, 3])
    except FormatError as error:
        check_line(error)
        return False
    lines = filter(str.strip, read_lines(path))
    expected = [list(map(float, line.split())) for line in lines]
    assert [
        [[7, 3][image], label + 1, score, *box]
        for image, label, score, box in zip(images, labels, scores, boxes.tolist(), strict=True)
    ] == expected
    return True


KINDS = (
    Kind("dets.json", NATIVE, check_native),
    Kind("results.json", RESULTS, check_results),
    Kind("proposals.jsonl", PROPOSALS, check_proposals),
    Kind("list.json", LIST, check_list),
    Kind("list.txt", "a.jpg 3\nb c.jpg 14\n", check_lines),
    Kind("comp4_det_test_cat.txt", "a 0.5 1 2 30.5 40\nb 0.25 5 6 7 8\n", check_voc),
    Kind("submission.txt", "3 1 0.5 1 2 30.5 40\n7 200 0.25 5 6 7 8\n", check_submission),
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.file)
def test_damaged_files_are_refused_in_a_line_or_read_literally(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.file
    path.write_bytes(kind.sound)
    assert kind.check(path)

    rng = random.Random(0)
    read = 0
    for _ in range(COUNT):
        path.write_bytes(kind.damaged(rng))
        read += kind.check(path)
    assert 0 < read < COUNT


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.file)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_understood(kind: Kind, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / kind.file
    path.write_bytes(kind.sound.decode().encode(encoding))
    assert kind.check(path)

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

from detector.evaluation import report
from detector.evaluation.benchmarks import Benchmark, Rule, coco_file
from detector.evaluation.bootstrap import compare

NASTY = '<img src="http://example.com/x.png">&'


class Reader(HTMLParser):
    """Collects what a page's elements refer to, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_data(self, text: str) -> None:
        self.text += text


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    PillowImage.new("RGB", (100, 80), "green").save(tmp_path / "a.png")
    boxes = [[0, 0, 20, 20], [50, 50, 20, 20], [40, 0, 30, 20]]
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": n, "bbox": box}
            for n, box in enumerate(boxes, start=1)
        ],
        "categories": [
            {"id": n, "name": name} for n, name in enumerate(("cat", "dog", NASTY, "none"), start=1)
        ],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    return coco_file(path, "voc2012", tmp_path)


@pytest.fixture
def detections(tmp_path: Path) -> Path:
    rows = [(1, 0.9, [0, 0, 20, 20]), (1, 0.8, [50, 50, 20, 20]), (3, 0.7, [40, 0, 30, 12])]
    found = [{"image_id": 1, "category_id": c, "score": s, "bbox": b} for c, s, b in rows]
    path = tmp_path / "found.json"
    path.write_text(json.dumps(found))
    return path


def write(benchmark: Benchmark, path: Path, folder: Path, **more: Any) -> None:
    detections = benchmark.read(path)
    score, rankings = benchmark.evaluate(detections)
    report.write(folder, benchmark, detections.found, score, rankings, **more)


def read(folder: Path) -> Reader:
    page = Reader()
    page.feed((folder / report.PAGE).read_text())
    return page


def test_page_holds_all_that_it_shows(
    benchmark: Benchmark, detections: Path, tmp_path: Path
) -> None:
    write(benchmark, detections, tmp_path / "report", photos=tmp_path)
    page = read(tmp_path / "report")
    assert page.addresses  # the pictures of the mistakes
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe"}
    assert NASTY in page.text
    assert "IoU with the object that it overlaps most" in page.text  # the rule, in words
    assert "no ground truth" in page.text
    style = (tmp_path / "report" / report.PAGE).read_text().split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_files_for_programs(benchmark: Benchmark, detections: Path, tmp_path: Path) -> None:
    write(benchmark, detections, tmp_path / "report")
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    assert content["mean_ap"] == pytest.approx(2 / 3)  # the dog is missed: it was called a cat
    assert content["mistakes"]["classification"] == {"count": 1, "cost": pytest.approx(1 / 3)}
    assert content["classes"][0]["best_threshold"]["score"] == 0.9
    with open(tmp_path / "report" / "classes.csv") as file:
        classes = list(csv.DictReader(file))
    assert [row["name"] for row in classes] == ["cat", "dog", NASTY, "none"]
    assert [row["ap"] for row in classes] == ["1.0", "0.0", "1.0", ""]
    with open(tmp_path / "report" / "mistakes.csv") as file:
        (mistake,) = csv.DictReader(file)
    assert mistake["kind"] == "classification"
    assert (mistake["found"], mistake["object"]) == ("cat", "dog")
    assert mistake["box"] == "50.0 50.0 70.0 70.0"


def test_without_photos_and_without_detections(benchmark: Benchmark, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.json"
    nothing.write_text("[]")
    write(benchmark, nothing, tmp_path / "report")
    page = read(tmp_path / "report")
    assert "Nothing was found." in page.text
    assert "no photos" in page.text


@pytest.mark.parametrize("rule", ["coco", "voc2012"])
@pytest.mark.parametrize("categories", [[], [{"id": 1, "name": "cat"}]])
def test_a_truth_without_objects(rule: Rule, categories: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    images = [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}]
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    found = [{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [0, 0, 9, 9]}]
    for rows in ([], found[: len(categories)]):
        (tmp_path / "found.json").write_text(json.dumps(rows))
        write(coco_file(path, rule, None), tmp_path / "found.json", tmp_path)
        content = json.loads((tmp_path / "report.json").read_text())
        assert content["mean_ap"] is None
        assert content["mistakes"]["background"]["count"] == len(rows)


def test_comparison(benchmark: Benchmark, detections: Path, tmp_path: Path) -> None:
    scored = benchmark.evaluate(benchmark.read(detections))
    same = compare(scored, scored, benchmark.ap)
    write(benchmark, detections, tmp_path / "report", comparison=same)
    assert "it may be chance" in read(tmp_path / "report").text


def test_scores_that_are_no_probabilities(
    benchmark: Benchmark, detections: Path, tmp_path: Path
) -> None:
    rows = json.loads(detections.read_text())
    detections.write_text(json.dumps([row | {"score": row["score"] - 5} for row in rows]))
    write(benchmark, detections, tmp_path / "report")
    assert "no probabilities" in read(tmp_path / "report").text


def test_same_bytes_each_time(benchmark: Benchmark, detections: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(benchmark, detections, tmp_path / name, photos=tmp_path)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()

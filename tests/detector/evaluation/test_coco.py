"""COCO's rule against pycocotools called on the same files in the plain way."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.datasets import coco as coco_data
from detector.errors import FormatError
from detector.evaluation.coco import FIGURES, check, evaluate
from detector.evaluation.detections import read

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "cow"}]


def files(folder: Path, seed: int, *, crowds: bool) -> tuple[Path, Path]:
    """Annotations, and detections that are near them, of boxes in quarters of a pixel."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in (5, 2, 11):
        for _ in range(6):
            category = int(rng.choice([7, 3]))
            box = (rng.integers(0, 400, 4) / 4 + [0, 0, 8, 8]).tolist()
            crowd = int(crowds and rng.random() < 0.3)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3] * float(rng.choice([0.5, 1])),
                    "iscrowd": crowd,
                }
            )
            for _ in range(3):
                near = (np.array(box) + rng.integers(-30, 30, 4) / 4).clip(0.25).tolist()
                score = float(rng.choice([0.2, 0.5, 0.5, 0.9]))
                found = {"image_id": image, "category_id": category, "bbox": near, "score": score}
                results.append(found)
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 200, "height": 200} for n in (5, 2, 11)]
    truth, detections = folder / "truth.json", folder / "results.json"
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    truth.write_text(json.dumps(content))
    detections.write_text(json.dumps(results))
    return truth, detections


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(tmp_path: Path, seed: int, crowds: bool) -> None:
    truth_file, results_file = files(tmp_path, seed, crowds=crowds)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file))
        plain = COCOeval(truth, truth.loadRes(str(results_file)), "bbox")
        plain.evaluate()
        plain.accumulate()
        plain.summarize()
    content = coco_data.read_content(truth_file)
    ground = coco_data.make_ground_truth(content)
    score, rankings = evaluate(ground, content, read(results_file, ground).found)
    expected = dict(zip(FIGURES, plain.stats.tolist(), strict=True))
    assert {name: -1 if value is None else value for name, value in score.figures.items()} == (
        pytest.approx(expected, abs=1e-12)
    )
    assert score.mean_ap == pytest.approx(expected["AP50"], abs=1e-9)
    assert [item.name for item in score.classes] == ["cat", "dog", "cow"]
    assert score.classes[2].ap is None
    assert sum(len(ranking.objects) for ranking in rankings) == sum(
        not item["iscrowd"] for item in content["annotations"]
    )


def test_traps_of_pycocotools(tmp_path: Path) -> None:
    """An annotation with id 0 can be found, and no result at all is a result."""
    truth_file, _ = files(tmp_path, 0, crowds=False)
    content = json.loads(truth_file.read_text())
    for number, item in enumerate(content["annotations"]):
        item["id"] = number
    truth_file.write_text(json.dumps(content))
    ground = coco_data.make_ground_truth(content)
    perfect = [
        {key: item[key] for key in ("image_id", "category_id", "bbox")} | {"score": 1.0}
        for item in content["annotations"]
    ]
    results = tmp_path / "perfect.json"
    results.write_text(json.dumps(perfect))
    score, _ = evaluate(ground, content, read(results, ground).found)
    assert score.figures["AP"] == pytest.approx(1)
    results.write_text("[]")
    assert evaluate(ground, content, read(results, ground).found)[0].mean_ap == 0
    content["annotations"][4]["ignore"] = 1
    with pytest.raises(FormatError, match=r"annotations\[4\]: ignore is 1, which COCO's rule"):
        check(truth_file, content)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"score": float("nan")}, "score and bbox must be finite"),
        ({"image_id": 1}, "the ground truth has no image_id 1"),
        ({"category_id": 1}, "the ground truth has no category_id 1"),
        ({"bbox": [1, 2, 3]}, "bbox [1, 2, 3] must be numbers"),
        ({"bbox": "1234"}, 'bbox "1234" must be numbers'),
        ({"score": "0.5"}, 'score "0.5" and'),
        ({"score": True}, "score true and"),
        ({"image_id": "5"}, "must be whole numbers"),
    ],
)
def test_wrong_results(tmp_path: Path, item: dict[str, Any], message: str) -> None:
    truth_file, results_file = files(tmp_path, 0, crowds=False)
    content = json.loads(results_file.read_text())
    content[2] |= item
    results_file.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"results\.json: \[2\]: ") as caught:
        read(results_file, coco_data.read(truth_file))
    assert message in str(caught.value)

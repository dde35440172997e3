from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from detector import Detection, Detector, DetectorError, Result
from detector.drawing import draw
from detector.errors import UnreadableImage
from detector.images import load

DETECTIONS = (
    Detection("dog", 0.9, (10.0, 5.0, 60.0, 20.0)),
    Detection("cat", 0.2, (0.0, 0.0, 30.0, 24.0)),
)


@pytest.fixture
def result(photos: Path) -> Result:
    return Result(
        path=str(photos / "a.png"),
        width=120,
        height=24,
        detections=DETECTIONS,
        proposals={"merged": 7},
        seconds={"decode": 0.1},
        classes=("cat", "dog"),
    )


def test_arrays_best_first(result: Result) -> None:
    assert result.boxes.dtype == result.scores.dtype == np.float32
    np.testing.assert_array_equal(result.boxes, [[10, 5, 60, 20], [0, 0, 30, 24]])
    np.testing.assert_array_equal(result.scores, np.array([0.9, 0.2], np.float32))
    assert result.labels == ["dog", "cat"]
    assert result.error is None


def test_no_detections(tiny_detector: Detector) -> None:
    empty = tiny_detector.detect(np.zeros((30, 20000, 3), np.uint8))
    assert empty.boxes.shape == (0, 4)
    assert empty.scores.shape == (0,)
    assert empty.labels == []
    assert empty.plot().size == (20000, 30)
    assert empty.to_pandas().shape == (0, 6)


def test_plot_draws_the_boxes_on_the_image(result: Result) -> None:
    image = load(str(result.path))
    plot = result.plot(minimum_score=0.1)
    assert plot.size == (120, 24)
    expected = draw(image, DETECTIONS, result.classes, 0.1)
    np.testing.assert_array_equal(np.asarray(plot), np.asarray(expected))
    assert (np.asarray(result.plot()) != np.asarray(plot)).any(), "only strong ones by default"


def test_plot_of_an_image_in_memory(tiny_detector: Detector, photos: Path) -> None:
    path = photos / "a.png"
    from_file = tiny_detector.detect(path)
    assert from_file.path == str(path)
    assert from_file.pixels is None, "a long list of results must not hold all images"
    in_memory = tiny_detector.detect(path.read_bytes())
    assert in_memory.path is None
    np.testing.assert_array_equal(np.asarray(in_memory.plot()), np.asarray(from_file.plot()))


def test_plot_of_a_file_that_has_gone(result: Result) -> None:
    Path(str(result.path)).unlink()
    with pytest.raises(UnreadableImage):
        result.plot()


def test_notebooks_show_the_plot(result: Result, tmp_path: Path) -> None:
    file = tmp_path / "plot.png"
    file.write_bytes(result._repr_png_())
    with PillowImage.open(file) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(result.plot()))


def test_to_dict_is_json(result: Result) -> None:
    content = json.loads(json.dumps(result.to_dict()))
    assert content["path"] == result.path
    assert content["detections"][0] == {
        "label": "dog",
        "score": 0.9,
        "box": [10.0, 5.0, 60.0, 20.0],
    }
    assert (content["width"], content["height"], content["proposals"]) == (120, 24, {"merged": 7})


def test_to_pandas(result: Result) -> None:
    table = result.to_pandas()
    assert list(table.columns) == ["label", "score", "x1", "y1", "x2", "y2"]
    assert table.values.tolist() == [[label, score, *box] for label, score, box in DETECTIONS]


def test_to_supervision(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in that keeps its arguments, as supervision brings a second OpenCV."""

    class Detections:
        def __init__(self, **fields: Any) -> None:
            self.fields = fields

    module = ModuleType("supervision")
    module.Detections = Detections  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", module)
    fields = result.to_supervision().fields
    np.testing.assert_array_equal(fields["xyxy"], result.boxes)
    np.testing.assert_array_equal(fields["confidence"], result.scores)
    assert fields["class_id"].tolist() == [1, 0]
    assert fields["data"]["class_name"].tolist() == ["dog", "cat"]


@pytest.mark.parametrize("name", ["pandas", "supervision"])
def test_missing_packages_are_named(
    result: Result, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DetectorError, match=f"needs pip install {name}"):
        getattr(result, f"to_{name}")()

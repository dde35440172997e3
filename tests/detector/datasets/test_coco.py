"""Reading ground truth in COCO's format."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from detector.datasets import coco
from detector.datasets.ground_truth import GroundTruth
from detector.errors import FormatError

EMPTY: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
TRUTH: dict[str, Any] = {
    "images": [
        {"id": 9, "file_name": "b c é.jpg", "width": 500, "height": 375},
        {"id": 2, "file_name": "a/1.jpg", "width": 40, "height": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 2, "category_id": 18, "bbox": [5, 6, 2, 3]},
        {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 500, 375], "difficult": 0},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [0.5, 1.25, 30, 20.5], "difficult": 1},
    ],
    "categories": [
        {"id": 18, "name": "dog"},
        {"id": 1, "name": "person"},
        {"id": 44, "name": "bottle"},
    ],
}


def read(folder: Path, content: Any) -> GroundTruth:
    """Write bytes or JSON to a file and read it."""
    path = folder / "instances.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return coco.read(path)


def truth_with(key: str, number: int = 0, **values: Any) -> dict[str, Any]:
    """Return the truth with other values in an item; the value `...` removes the key."""
    content = copy.deepcopy(TRUTH)
    item = content[key][number] | values
    content[key][number] = {name: value for name, value in item.items() if value is not ...}
    return content


def test_a_data_set_may_be_empty(tmp_path: Path) -> None:
    truth = read(tmp_path, EMPTY)
    assert (truth.classes, truth.images) == ({}, ())


def test_images_may_have_no_objects(tmp_path: Path) -> None:
    truth = read(tmp_path, TRUTH | {"annotations": []})
    assert [image.boxes.shape for image in truth.images] == [(0, 4), (0, 4)]
    assert [image.labels.shape for image in truth.images] == [(0,), (0,)]
    assert [image.difficult.shape for image in truth.images] == [(0,), (0,)]


def test_classes_are_sorted_by_id(tmp_path: Path) -> None:
    assert list(read(tmp_path, TRUTH).classes.items()) == [
        ("person", 1),
        ("dog", 18),
        ("bottle", 44),
    ]


def test_images_and_their_objects_keep_the_order_of_the_file(tmp_path: Path) -> None:
    first, second = read(tmp_path, TRUTH).images
    assert (first.file, first.width, first.height) == ("b c é.jpg", 500, 375)
    assert (second.file, second.width, second.height) == ("a/1.jpg", 40, 30)
    assert first.boxes.tolist() == [[0, 0, 500, 375]]
    assert second.boxes.tolist() == [[5, 6, 7, 9], [0.5, 1.25, 30.5, 21.75]]
    assert first.labels.tolist() == [0]
    assert second.labels.tolist() == [1, 0]
    assert first.difficult.tolist() == [False]
    assert second.difficult.tolist() == [False, True]
    for image in (first, second):
        assert image.boxes.dtype == np.dtype(np.float32)
        assert image.labels.dtype == np.dtype(np.int64)
        assert image.difficult.dtype == np.dtype(np.bool_)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"{", "not JSON", id="cut off"),
        pytest.param(b'"caf\xe9"', "is not UTF-8 text", id="not UTF-8"),
        pytest.param([], 'needs a list "images"', id="a list of results"),
        pytest.param({"images": []}, 'needs a list "annotations"', id="no annotations"),
        pytest.param(EMPTY | {"categories": {}}, 'needs a list "categories"', id="classes by name"),
        pytest.param(truth_with("images", id=...), r"images\[0\]: lacks id", id="no image's id"),
        pytest.param(
            truth_with("categories", name=...), r"categories\[0\]: lacks name", id="no class's name"
        ),
        pytest.param(
            EMPTY | {"images": [5]},
            r"images\[0\]: must be an object, not 5",
            id="a number for an image",
        ),
        pytest.param(
            truth_with("images", id=2),
            r"images\[1\]: has the same id as images\[0\]: 2",
            id="one id twice",
        ),
        pytest.param(
            truth_with("categories", id=1),
            r"categories\[1\]: has the same id",
            id="one class's id twice",
        ),
        pytest.param(
            truth_with("categories", name="person"),
            r"categories\[1\]: has the same name",
            id="one class's name twice",
        ),
        pytest.param(
            truth_with("images", file_name=...), r"images\[0\]: lacks file_name", id="no file"
        ),
        pytest.param(
            truth_with("images", 1, width=...), r"images\[1\]: lacks width", id="no width"
        ),
        pytest.param(
            truth_with("images", 1, file_name=5),
            r"images\[1\]: file_name is 5",
            id="a number's file",
        ),
        pytest.param(
            truth_with("images", 1, height="30"),
            r"images\[1\]: height is .30., but must",
            id="a text's height",
        ),
        pytest.param(
            truth_with("annotations", 1, image_id=7),
            r"annotations\[1\]: unknown image_id 7",
            id="an unknown image",
        ),
        pytest.param(
            truth_with("annotations", 2, category_id=2),
            r"annotations\[2\]: unknown category_id 2",
            id="an unknown class",
        ),
        pytest.param(
            truth_with("annotations", bbox=...),
            r"annotations\[0\]: lacks bbox",
            id="no box",
        ),
        pytest.param(
            TRUTH | {"annotations": [5]},
            r"annotations\[0\]: must be an",
            id="a number for an object",
        ),
        pytest.param(
            truth_with("annotations", bbox=[1, 2, 3]), r"annotations\[0\]: bbox is", id="half a box"
        ),
        pytest.param(
            truth_with("annotations", bbox=[1, 2, 3, 10**400]),
            r"annotations\[0\]: bbox is",
            id="an enormous box",
        ),
        pytest.param(
            truth_with("annotations", 1, bbox=[1, 2, 0, 4]),
            r"annotations\[1\]: bbox \[1, 2, 0, 4\] must have",
            id="no width of a box",
        ),
        pytest.param(
            truth_with("annotations", 1, bbox=[1, 2, 3, -4]),
            r"annotations\[1\]: bbox",
            id="a negative height",
        ),
        pytest.param(
            truth_with("annotations", 1, bbox=[1, 2, 3, float("nan")]),
            r"annotations\[1\]: bbox",
            id="nan for a height",
        ),
        pytest.param(
            truth_with("annotations", 1, bbox=[float("nan"), 2, 3, 4]),
            r"annotations\[1\]: bbox",
            id="nan for x",
        ),
        pytest.param(
            truth_with("annotations", 1, bbox=[1, 2, float("inf"), 4]),
            r"annotations\[1\]: bbox",
            id="an infinite width",
        ),
    ],
)
def test_the_first_wrong_item_is_named(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        read(tmp_path, content)
    assert caught.value.file == str(tmp_path / "instances.json")


@pytest.mark.parametrize("name", ["missing.json", "."], ids=["missing", "a folder"])
def test_unreadable_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        coco.read(tmp_path / name)


@st.composite
def truths(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the JSON of a correct annotation file."""
    numbers = st.integers(0, 10**6)
    images = draw(st.lists(numbers, unique=True, max_size=4))
    classes = draw(st.lists(numbers, unique=True, min_size=1, max_size=4))
    side = st.integers(1, 4000).map(lambda quarters: quarters / 4)
    annotations = []
    for number in range(1, draw(st.integers(1, 7)) if images else 1):
        bbox = [draw(side) for _ in range(4)]
        annotations.append(
            {
                "id": number,
                "image_id": draw(st.sampled_from(images)),
                "category_id": draw(st.sampled_from(classes)),
                "bbox": bbox,
                "area": bbox[2] * bbox[3],
            }
        )
    return {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": 2000, "height": 2000}
            for number in images
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": f"class {number}"} for number in classes],
    }


@given(truths())
@settings(max_examples=50)
def test_pycocotools_reads_the_same(content: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        truth = read(Path(folder), content)
        reference = COCO(str(Path(folder) / "instances.json"))
    assert list(truth.classes.values()) == sorted(reference.getCatIds())
    numbers = list(truth.classes.values())
    for image, item in zip(truth.images, content["images"], strict=True):
        expected = reference.loadAnns(reference.getAnnIds(imgIds=[item["id"]]))
        assert image.file == reference.loadImgs([item["id"]])[0]["file_name"]
        assert [numbers[label] for label in image.labels] == [a["category_id"] for a in expected]
        x, y, width, height = np.array([a["bbox"] for a in expected]).reshape(-1, 4).T
        np.testing.assert_array_equal(image.boxes, np.stack([x, y, x + width, y + height], axis=1))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(-1e6, 1e6)
    | st.text(max_size=5)
    | st.sampled_from([2, 9, 1, 18]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        *[("images", key) for key in ("id", "file_name", "width", "height")],
        *[("annotations", key) for key in ("image_id", "category_id", "bbox", "difficult")],
        *[("categories", key) for key in ("id", "name")],
    ]
)


def read_or_error(folder: Path, content: Any) -> GroundTruth | FormatError:
    """Return the ground truth of a file, or the error of reading it."""
    try:
        return read(folder, content)
    except FormatError as error:
        return error


@given(KEYS, VALUES)
@example(("annotations", "bbox"), {"1": 0, "2": 0, "3": 0, "4": 0})
@example(("annotations", "bbox"), "1234")
@example(("images", "id"), [])
@example(("categories", "name"), [])
def test_any_value_is_read_or_refused(key: tuple[str, str], value: Any) -> None:
    items, name = key
    with tempfile.TemporaryDirectory() as folder:
        result = read_or_error(Path(folder), truth_with(items, 0, **{name: value}))
    if isinstance(result, GroundTruth):
        for image in result.images:
            assert isinstance(image.file, str)
            assert np.isfinite(image.boxes).all()
            assert (image.boxes[:, 2:] > image.boxes[:, :2]).all()


CASES = Path(__file__).parents[2] / "cases" / "coco"


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("iscrowd_str0", r'annotations\[\d+\]: iscrowd is "0", but must be the number 0 or 1'),
        ("difficult_str0", r'annotations\[\d+\]: difficult is "0", but must be'),
        ("bbox_str", r'annotations\[\d+\]: bbox is \["10", "10".*, but must be four numbers'),
        ("none_category_name", r"categories\[\d+\]: name is null, but must be a text"),
    ],
)
def test_fields_of_other_types_are_refused(case: str, message: str) -> None:
    with pytest.raises(FormatError, match=rf"{case}\.json: {message}"):
        coco.read(CASES / f"{case}.json")


def test_an_area_that_is_null_is_that_of_the_box() -> None:
    content = coco.read_content(CASES / "area_none.json")
    assert [coco.area(item) for item in content["annotations"]] == [
        item["bbox"][2] * item["bbox"][3] for item in content["annotations"]
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("iscrowd", [0]), ("iscrowd", 2), ("difficult", "1"), ("ignore", "0"), ("area", "6"),
        ("area", -1), ("area", float("nan")), ("bbox", None), ("bbox", ["1", "2", "3", "4"]),
        ("bbox", [1, 2, 3, True]), ("bbox", [1, 2, 3, 1e39]), ("bbox", {"x": 1}),
        ("category_id", 18.0), ("category_id", True), ("category_id", "18"), ("image_id", None),
        ("image_id", [2]), ("image_id", "x" * 5000), ("image_id", "a\nb"),
        ("bbox", [100, 0, 1e-7, 5]),
    ],
)  # fmt: skip
def test_every_field_of_an_annotation_is_checked(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=rf"annotations\[0\]: (unknown )?{key}") as caught:
        read(tmp_path, truth_with("annotations", **{key: value}))
    assert "\n" not in str(caught.value)
    assert len(caught.value.message) < 200


def test_a_class_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r'categories\[0\]: class "a\\nb" must be one line'):
        read(tmp_path, truth_with("categories", name="a\nb"))

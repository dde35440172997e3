"""Which detections belong to which image of a ground truth, and what is left over."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.datasets.ground_truth import AnnotatedImage, GroundTruth
from detector.errors import FormatError
from detector.evaluation.detections import (
    Detections,
    Unmatched,
    from_entries,
    read,
    read_submission,
)
from detector.formats.records import Entry
from detector.results import Detection

BOX = (1.0, 2.0, 30.0, 40.0)
SIZE = {"width": 100, "height": 80}


def make_truth(*files: str, labels: tuple[int, ...] = (0,)) -> GroundTruth:
    """Return a ground truth of these images, with an object of each label in each."""
    boxes = np.array([BOX] * len(labels), np.float32).reshape(-1, 4)
    flags = np.zeros(len(labels), np.bool_)
    images = (
        AnnotatedImage(file, 100, 80, boxes, np.array(labels, np.int64), flags, image_id=number)
        for number, file in enumerate(files, start=1)
    )
    return GroundTruth({"cat": 1, "dog": 2}, tuple(images))


def match(files: list[str], truth: GroundTruth) -> tuple[dict[str, str], Unmatched]:
    """Return the entry of each image, and what is left, for entries with these names."""
    entries = [
        Entry(file, 100, 80, {}, (Detection("cat", number / 100, BOX),))
        for number, file in enumerate(files)
    ]
    found, unmatched = from_entries(entries, truth.images, {"cat": 0})
    pairs = zip(found.images.tolist(), found.scores.tolist(), strict=True)
    matches = {truth.images[image].file: files[round(100 * score)] for image, score in pairs}
    assert len(matches) == len(found.images), "no image has two entries"
    return matches, unmatched


@pytest.mark.parametrize(
    ("entry", "image"),
    [
        ("a/1.jpg", "a/1.jpg"),
        ("./a/1.jpg", "a/1.jpg"),
        ("a//1.jpg", "a/1.jpg"),
        ("a\\1.jpg", "a/1.jpg"),
        ("a/1.jpg", ".\\a\\1.jpg"),
        ("x/../a/1.jpg", "a/1.jpg"),
        ("/photos/a/1.jpg", "a/1.jpg"),
        ("1.jpg", "a/1.jpg"),
        ("a\\1.jpg", "a\\1.jpg"),
    ],
)
def test_spellings_of_one_image(entry: str, image: str) -> None:
    matches, unmatched = match([entry], make_truth(image))
    assert matches == {image: entry}
    assert unmatched == Unmatched()


@pytest.mark.parametrize("entry", ["A/1.jpg", "a/1.JPG", "a/1.png", "a/1", "", "a/2.jpg"])
def test_other_names_are_other_images(entry: str) -> None:
    matches, unmatched = match([entry], make_truth("a/1.jpg"))
    is_same_name = entry == "A/1.jpg"
    assert bool(matches) == is_same_name
    assert unmatched.moved == ((("a/1.jpg", "A/1.jpg"),) if is_same_name else ())
    assert unmatched.entries == (() if is_same_name else (entry,))
    assert unmatched.detections == (not is_same_name)


def test_an_exact_name_comes_before_other_spellings() -> None:
    matches, unmatched = match(["a\\1.jpg"], make_truth("a/1.jpg", "a\\1.jpg"))
    assert matches == {"a\\1.jpg": "a\\1.jpg"}
    assert unmatched.images == ("a/1.jpg",)

    matches, unmatched = match(["a\\1.jpg", "a/1.jpg"], make_truth("a/1.jpg", "a\\1.jpg"))
    assert matches == {"a/1.jpg": "a/1.jpg", "a\\1.jpg": "a\\1.jpg"}
    assert unmatched == Unmatched()


def test_a_name_of_two_images_is_neither() -> None:
    matches, unmatched = match(["1.jpg"], make_truth("a/1.jpg", "b/1.jpg"))
    assert not matches
    assert unmatched.images == ("a/1.jpg", "b/1.jpg")
    matches, unmatched = match(["a/1.jpg", "b/1.jpg"], make_truth("1.jpg"))
    assert not matches
    assert unmatched.entries == ("a/1.jpg", "b/1.jpg")


FILES = st.lists(
    st.sampled_from(["a.jpg", "./a.jpg", "x/a.jpg", "x\\a.jpg", "x//a.jpg", "y/a.jpg", "b.jpg"]),
    unique=True,
    max_size=5,
)


@given(FILES, FILES)
def test_all_detections_are_counted_once(files: list[str], images: list[str]) -> None:
    matches, unmatched = match(files, make_truth(*images))
    assert len(set(matches.values())) == len(matches), "no entry has two images"
    assert sorted([*matches, *unmatched.images]) == sorted(images)
    assert sorted([*matches.values(), *unmatched.entries]) == sorted(files)
    assert unmatched.detections == len(unmatched.entries)
    for file in set(files) & set(images):
        assert matches[file] == file


def write_native(path: Path, *images: dict[str, Any], classes: tuple[str, ...] = ("cat",)) -> Path:
    content = {"format": "detections/1", "classes": classes, "images": images, "failed": []}
    path.write_text(json.dumps(content))
    return path


def image(file: str, *labels: str, **changes: Any) -> dict[str, Any]:
    found = [{"label": label, "score": 0.5, "box": BOX} for label in labels]
    return {"file": file, **SIZE, "detections": found, **changes}


def unmatched(path: Path, truth: GroundTruth) -> Unmatched:
    found = read(path, truth).unmatched
    assert found is not None
    return found


def test_images_of_another_size_are_named(tmp_path: Path) -> None:
    path = write_native(tmp_path / "d.json", image("a.jpg", width=80, height=100), image("b.jpg"))
    found = unmatched(path, make_truth("a.jpg", "b.jpg"))
    assert found == Unmatched(resized=("a.jpg",))
    assert found.may_lower_scores


def test_classes_that_a_file_lacks_are_named_if_they_have_objects(tmp_path: Path) -> None:
    path = write_native(tmp_path / "d.json", image("a.jpg", "Cat"), classes=("Cat",))
    found = unmatched(path, make_truth("a.jpg"))
    assert found == Unmatched(classes=("Cat",), detections=1, missing_classes=("cat",))
    assert found.may_lower_scores

    path = write_native(tmp_path / "d.json", image("a.jpg", "cat"), classes=())
    assert unmatched(path, make_truth("a.jpg")) == Unmatched()
    assert unmatched(path, make_truth("a.jpg", labels=(0, 1))).missing_classes == ("dog",)


def test_classes_without_a_file_of_voc_are_named(tmp_path: Path) -> None:
    (tmp_path / "comp4_det_test_dog.txt").write_text("")
    (tmp_path / "cat.txt").write_text("a 0.5 1 1 2 2\n")
    found = unmatched(tmp_path, make_truth("a.jpg", labels=(0, 1)))
    assert found == Unmatched(missing_classes=("cat",))


def test_two_spellings_of_one_image_are_refused(tmp_path: Path) -> None:
    path = write_native(tmp_path / "d.json", image("a.jpg"), image("./a.jpg"))
    with pytest.raises(FormatError, match=r"a\.jpg and \./a\.jpg are the same image"):
        read(path, make_truth("a.jpg"))
    assert unmatched(path, make_truth("a.jpg", "./a.jpg")) == Unmatched()


def results(path: Path, **changes: Any) -> Path:
    item = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 29, 38], "score": 0.5}
    path.write_text(json.dumps([item | changes]))
    return path


@pytest.mark.parametrize(
    "name", ["x/a.jpg", "a.jpg", "x\\a.jpg", "/photos/x/a.jpg", "a.png", "a", None, 5]
)
def test_results_may_name_their_image(name: Any, tmp_path: Path) -> None:
    path = results(tmp_path / "d.json", file_name=name)
    assert read(path, make_truth("x/a.jpg", "y/a.jpg")).found.images.tolist() == [0]


@pytest.mark.parametrize("name", ["b.jpg", "y/a.jpg", "y\\a.jpg", "A.jpg", ""])
def test_results_with_ids_of_other_images_are_refused(name: str, tmp_path: Path) -> None:
    path = results(tmp_path / "d.json", file_name=name)
    with pytest.raises(FormatError, match=r"\[0\]: file_name is .*but image_id 1 .*x/a\.jpg"):
        read(path, make_truth("x/a.jpg", "y/a.jpg"))


@pytest.mark.parametrize("box", [[1, 2, -1, 5], [1, 2, 5, -0.5]])
def test_boxes_that_end_before_they_begin_are_refused(box: list[float], tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"\[0\]: bbox .* has a width or height below 0"):
        read(results(tmp_path / "d.json", bbox=box), make_truth("a.jpg"))

    x, y, width, height = box
    (tmp_path / "voc").mkdir()
    file = tmp_path / "voc" / "comp4_det_test_cat.txt"
    file.write_text(f"a 0.5 {x + 1} {y + 1} {x + width} {y + height}\n")
    with pytest.raises(FormatError, match=r"cat\.txt:1: the box ends before it begins"):
        read(file.parent, make_truth("a.jpg"))


def read_pipe(data: bytes, *, submission: bool = False) -> Detections:
    """Read detections from a pipe, which can be read only once."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    try:
        path = Path(f"/dev/fd/{reading}")
        return (read_submission if submission else read)(path, make_truth("a.jpg"))
    finally:
        os.close(reading)


def test_pipes_are_read_once(tmp_path: Path) -> None:
    native = write_native(tmp_path / "d.json", image("a.jpg", "cat")).read_bytes()
    assert read_pipe(native).found.scores.tolist() == [0.5]
    assert read_pipe(results(tmp_path / "r.json").read_bytes()).found.scores.tolist() == [0.5]
    text = b"1 58 0.5 1 2 29 39\n"
    assert read_pipe(text, submission=True).found.labels.tolist() == [57]
    assert read_pipe(native, submission=True).found.labels.tolist() == [58]

"""Annotations as labelling tools write them, on photos of the sizes that they state."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from detector.commands.train import command
from detector.errors import FormatError
from detector.training.cleaning import clean_boxes, clean_classes
from detector.training.data_set import read_coco_sets

CASES = Path(__file__).parents[2] / "cases" / "user"
WRONG = "008764.jpg"
"""A photo of 400 x 500 pixels, of which `size_wrong.json` says 407 x 500."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for image in json.loads((CASES / "cvat_zero_id.json").read_text())["images"]:
        PillowImage.new("RGB", (image["width"], image["height"]), (90, 120, 150)).save(
            folder / image["file_name"]
        )
    return folder


Train = Callable[..., int]


@pytest.fixture
def train(photos: Path, tiny_weights: list[Path], tmp_path: Path) -> Train:
    """Train a MultiBox for a step on a file of annotations, and return the exit code."""
    config = tmp_path / "multibox.toml"
    config.write_text(
        "size = 64\npriors = 6\nhidden = 16\narchitecture = { width = 0.25 }\n"
        "pictures = { batch_size = 2 }\noptimisation = { steps = 1 }\n"
    )

    def run(file: Path, *options: str, images: Path = photos) -> int:
        files = ["--data", file, "--images", images, "--weights", tiny_weights[0]]
        files += ["--config", config, "--out", tmp_path / "out", "--device", "cpu"]
        return command(["multibox", *map(str, files), *options])

    return run


@pytest.mark.parametrize(
    ("case", "note"),
    [
        (
            "box_0.4px_out",
            "1 box is clipped: 008186.jpg: box 1 of 1 (449.8, 10, 500.4, 50) reaches out of the "
            "500x443 photo",
        ),
        (
            "box_outside",
            "1 box is clipped: 008186.jpg: box 1 of 1 (-5, 0, 99995, 50) reaches out of the "
            "500x443 photo",
        ),
        ("box_empty", "1 box is dropped: "),
    ],
)
def test_boxes_are_clipped_or_dropped_and_named(
    case: str,
    note: str,
    train: Train,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = CASES / f"{case}.json"
    assert train(file, "--strict") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file}: ")
    assert train(file) == 0
    (message,) = caplog.messages
    assert message.startswith(f"warning: {file}: {note}")


@pytest.mark.parametrize("case", ["cvat_zero_id", "roboflow_super"])
def test_what_is_fine(case: str, train: Train, caplog: pytest.LogCaptureFixture) -> None:
    assert train(CASES / f"{case}.json", "--strict") == 0
    assert not caplog.messages


def test_a_category_without_boxes_is_left_out(photos: Path) -> None:
    sets = read_coco_sets(CASES / "roboflow_super.json", photos)
    cleaned, (note,) = clean_classes(sets, strict=False)
    assert list(cleaned.data.truth.classes) == ["bird", "cat", "dog"]
    assert note.endswith("roboflow_super.json: class 'animals' has no box and is left out")


def test_ids_from_0(photos: Path) -> None:
    sets = read_coco_sets(CASES / "cvat_zero_id.json", photos)
    cleaned, notes = clean_classes(clean_boxes(sets, strict=True)[0], strict=True)
    assert not notes
    assert dict(cleaned.data.truth.classes) == {"bird": 0, "cat": 1, "dog": 2}


def test_a_wrong_size_is_one_line(
    train: Train, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(CASES / "size_wrong.json") == 2
    assert capsys.readouterr().err == (
        f"error: {photos / WRONG}: is 400x500 (upright), but its annotations say 407x500\n"
    )


def test_no_annotation_at_all(
    train: Train, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(CASES / "no_ann_images.json") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no_ann_images.json: 6 priors need as many distinct" in line
    with pytest.raises(FormatError, match="class 'bird' has no box: remove the class or"):
        clean_classes(read_coco_sets(CASES / "no_ann_images.json", photos), strict=False)


@pytest.mark.parametrize(
    "prefix",
    [
        "images/1/",
        "images\\1\\",
        "/data/upload/12/",
        "upload/3/0a1b2c3d-",
        "/data/upload/1/0a1b2c3d-",
        "/data/local-files/?d=",
        "/data/local-files/?d=my%20project/photos/",
        "http://localhost:8080/data/local-files/?d=photos/",
    ],
)
def test_names_of_label_studio(prefix: str, photos: Path, tmp_path: Path) -> None:
    content = json.loads((CASES / "label_studio_paths.json").read_text())
    for image in content["images"]:
        image["file_name"] = image["file_name"].replace("images/1/", prefix)
    file = tmp_path / "renamed.json"
    file.write_text(json.dumps(content))
    images = read_coco_sets(file, photos).data.truth.images
    assert all((photos / image.file).is_file() for image in images)
    assert images[0].file == "008186.jpg"


def test_a_name_that_exists_is_taken_as_it_is(tmp_path: Path) -> None:
    for name in ("images/1/008186.jpg", "008186.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    images = read_coco_sets(CASES / "label_studio_paths.json", tmp_path).data.truth.images
    assert images[0].file == "images/1/008186.jpg"


def test_two_names_of_one_photo_are_refused(photos: Path, tmp_path: Path) -> None:
    content = json.loads((CASES / "label_studio_paths.json").read_text())
    content["images"][1]["file_name"] = "images/2/008186.jpg"
    file = tmp_path / "twice.json"
    file.write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"images/1/008186.jpg and images/2/008186.jpg are one"):
        read_coco_sets(file, photos)


def test_missing_photos_are_named_by_their_path(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    path = empty / "images/1/008186.jpg"
    assert train(CASES / "label_studio_paths.json", images=empty) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "none of its photos can be used, the first is images/1/008186.jpg: cannot be read: no such "
        f"file or directory: {path}"
    )
    assert train(CASES / "label_studio_paths.json", "--strict", images=empty) == 2
    assert f"cannot be read: no such file or directory: {path}" in capsys.readouterr().err

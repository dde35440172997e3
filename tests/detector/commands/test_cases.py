"""The small inputs of `tests/cases` that once were read wrongly, by the commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from detector.commands import run
from detector.commands.eval import command

CASES = Path(__file__).parents[2] / "cases"


def scores(arguments: list[str], folder: Path) -> dict[str, Any]:
    """Run `detector-eval`, which must succeed, and return its JSON."""
    out = folder / "scores.json"
    assert command([*arguments, "--quiet", "--json", str(out)]) == 0
    return dict(json.loads(out.read_bytes()))


@pytest.mark.parametrize(
    "case", ["swapped_filename", "stale_filename", "filename_empty", "spaces_in_list"]
)
def test_voc_trees_whose_annotations_name_other_files(case: str, tmp_path: Path) -> None:
    root = CASES / "voc" / case
    arguments = ["--voc", "2007", "--data-root", str(root), "--split", "val"]
    content = scores([*arguments, "--detections", str(root / "n.json")], tmp_path)
    assert content["mean_ap"] == 1.0


@pytest.mark.parametrize("case", ["stale_filename", "filename_empty", "spaces_in_list"])
def test_voc_result_files(case: str, tmp_path: Path) -> None:
    root = CASES / "voc" / case
    arguments = ["--voc", "2007", "--data-root", str(root), "--split", "val"]
    content = scores([*arguments, "--detections", str(root / "dets")], tmp_path)
    assert content["mean_ap"] == 1.0


@pytest.mark.parametrize("detections", ["n.json", "dets"])
def test_a_voc_list_that_names_an_image_twice(
    detections: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = CASES / "voc" / "dup_in_list"
    arguments = ["--voc", "2007", "--data-root", str(root), "--split", "val"]
    assert command([*arguments, "--detections", str(root / detections)]) == 2
    assert 'val.txt:3: "a" is listed twice, first in 1' in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a\u2028b", "a\x85b", "a\x1b[31m", "a\0b"])
def test_an_error_with_a_name_from_a_file_is_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(CASES / "voc" / "stale_filename", tmp_path / "tree")
    (tmp_path / "tree" / "ImageSets" / "Main" / "val.txt").write_text(name, encoding="utf-8")
    arguments = ["--voc", "2007", "--data-root", str(tmp_path / "tree"), "--split", "val"]
    assert command([*arguments, "--detections", "absent.json"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert error.removesuffix("\n").isprintable()


@pytest.mark.parametrize("rule", ["coco", "voc2007", "voc2012"])
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("iscrowd_str0", 'annotations[0]: iscrowd is "0", but must be the number 0 or 1'),
        ("difficult_str0", 'annotations[0]: difficult is "0", but must be the number 0 or 1'),
        ("bbox_str", "annotations[0]: bbox is"),
        ("none_category_name", "categories[0]: name is null, but must be a text"),
    ],
)
def test_coco_fields_of_other_types(
    case: str, message: str, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = CASES / "coco" / f"{case}.json"
    detections = CASES / "coco" / "base.dets.json"
    assert command(["--coco", str(file), "--rule", rule, "--detections", str(detections)]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {file}: {message}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("rule", ["coco", "voc2007", "voc2012"])
def test_an_area_that_is_null(rule: str, tmp_path: Path) -> None:
    def score(name: str) -> dict[str, Any]:
        files = (CASES / "coco" / f"{name}.json", CASES / "coco" / f"{name}.dets.json")
        arguments = ["--coco", str(files[0]), "--rule", rule, "--detections", str(files[1])]
        return scores(arguments, tmp_path)

    assert score("area_none")["mean_ap"] == score("base")["mean_ap"]


def test_a_kit_that_ends_the_interpreter(
    ilsvrc_devkit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = tmp_path / "kit"
    shutil.copytree(ilsvrc_devkit, kit, symlinks=False)
    name = "ILSVRC2015_det_validation_ground_truth.mat"
    shutil.copy(CASES / "ilsvrc" / "hostile_ground_truth.mat", kit / "data" / name)
    detections = tmp_path / "dets.txt"
    detections.write_text("")
    arguments = ["--ilsvrc-det", "val", "--devkit", str(kit), "--detections", str(detections)]
    assert command(arguments) == 2
    assert f"{name}: not the kit's ground truth" in capsys.readouterr().err


NAMES = CASES / "names"


def names_arguments(detections: str) -> list[str]:
    truth = ["--coco", str(NAMES / "gt.json"), "--rule", "voc2007"]
    return [*truth, "--detections", str(NAMES / detections)]


def test_voc_result_files_of_images_with_one_stem(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(names_arguments("vocd")) == 2
    message = "VOC's files cannot tell cam1/0001.jpg and cam2/0001.jpg apart: both are 0001 there"
    assert message in capsys.readouterr().err


def test_a_file_that_is_twice_among_detections(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(names_arguments("dupfile.json")) == 2
    error = capsys.readouterr().err
    assert "dupfile.json: images[" in error
    assert "is images[" in error


@pytest.mark.parametrize("spelling", ["slashes", "backsl"])
def test_other_spellings_of_paths(spelling: str, tmp_path: Path) -> None:
    content = scores(names_arguments(f"{spelling}.json"), tmp_path)
    assert content["mean_ap"] == 1.0
    assert content["unmatched"]["images"] == content["unmatched"]["entries"] == 0


def change_names(folder: Path, change: Any) -> Path:
    """Write the right detections with other names of images."""
    content = json.loads((NAMES / "backsl.json").read_bytes())
    for image in content["images"]:
        image["file"] = change(image["file"].replace("\\", "/"))
    path = folder / "changed.json"
    path.write_text(json.dumps(content))
    return path


def test_detections_on_no_image_of_the_truth_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upper = change_names(tmp_path, str.upper)
    for path, first in ((upper, "CAM1/0001.JPG"), (NAMES / "base.json", "0001.jpg")):
        assert command([*names_arguments("")[:4], "--detections", str(path)]) == 2
        assert f"none of its images, such as {first}, is one of" in capsys.readouterr().err


def test_what_is_left_unmatched_is_in_the_json(tmp_path: Path) -> None:
    path = change_names(tmp_path, lambda name: name.replace("cam2", "CAM2"))
    content = scores([*names_arguments("")[:4], "--detections", str(path)], tmp_path)
    unmatched = content["unmatched"]
    assert unmatched["entries"] >= 1
    assert unmatched["first_entry"].startswith("CAM2/")
    assert unmatched["first_image"].startswith("cam2/")
    assert unmatched["detections"] >= 1


@pytest.mark.parametrize("options", [["--quiet"], ["--quiet", "--json", "-"], ["--json", "-"]])
def test_images_without_detections_are_said_where_no_table_is(
    options: list[str], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = change_names(tmp_path, lambda name: name.replace("cam2/0001", "CAM2/1\x1b[31m\n"))
    assert command([*names_arguments("")[:4], "--detections", str(path), *options]) == 0
    out, err = capfdbinary.readouterr()
    assert err.decode().splitlines() == [
        f"warning: 1 images are not in {path}, such as cam2/0001.jpg",
        f"warning: 1 images of {path} are not in the ground truth, such as CAM2/1\\x1b[31m\\n.jpg",
    ]
    if "-" in options:
        assert json.loads(out)["unmatched"]["images"] == 1


def test_what_cannot_lower_scores_is_not_said_with_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((NAMES / "slashes.json").read_bytes())
    content["images"][0]["detections"].append({"label": "cow", "score": 1, "box": [1, 2, 3, 4]})
    path = tmp_path / "dets.json"
    path.write_text(json.dumps(content))
    arguments = [*names_arguments("")[:4], "--detections", str(path)]
    assert scores(arguments, tmp_path)["unmatched"]["classes"] == ["cow"]
    assert capsys.readouterr().err == ""
    assert command(arguments) == 0
    assert f"{path} has detections of classes that the ground truth lacks: cow" in (
        capsys.readouterr().out
    )


def test_what_is_left_of_compared_detections_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = change_names(tmp_path, lambda name: name.replace("cam2", "CAM2"))
    arguments = [*names_arguments("backsl.json"), "--compare", str(path)]
    content = scores(arguments, tmp_path)
    assert content["unmatched"]["images"] == 0
    assert content["compare"]["unmatched"]["images"] == 1
    assert f"warning: 1 images are not in {path}, such as cam2/0001.jpg" in capsys.readouterr().err


@pytest.mark.parametrize("case", ["traversal_bundle.json", "slash_bundle.json"])
def test_class_names_that_are_paths(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(CASES / "bundles" / case, tmp_path / "bundle.json")
    arguments = ["--images", "x", "--out", str(tmp_path / "out"), "--format", "voc"]
    assert run.command([*arguments, "--bundle", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "bundle.json" in error
    assert "must not have /" in error

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detector.bundle import Bundle
from detector.commands.eval import command


@pytest.fixture
def truth(photos: Path, tmp_path: Path) -> Path:
    names = ["a.png", "b c é.png", "more/d.png"]
    content = {
        "images": [
            {"id": n, "file_name": name, "width": 120, "height": 90} for n, name in enumerate(names)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "cow"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 3, "bbox": [0, 0, 120, 90], "difficult": 0}
            for n in range(3)
        ],
    }
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(content))
    return file


def test_detects_first_and_goes_on(
    tiny_bundle: Bundle,
    photos: Path,
    truth: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores, out = tmp_path / "scores.json", tmp_path / "dets.json"
    common = ["--coco", str(truth), "--rule", "voc2007", "--json", str(scores), "--quiet"]
    bundle = ["--bundle", str(tiny_bundle.directory), "--images", str(photos), "--out", str(out)]
    assert command([*common, *bundle]) == 0
    first = json.loads(scores.read_bytes())
    assert first["images"] == 3
    assert [item["name"] for item in first["classes"]] == ["cat", "cow"]
    assert [item["id"] for item in first["classes"]] == [3, 5]
    assert first["classes"][1]["ap"] is None
    assert first["mean_ap"] == first["classes"][0]["ap"]
    settings = json.loads(out.read_bytes())["settings"]
    assert settings["detections"]["score_threshold"] == 0.001, "as the preset paper has it"
    scores.unlink()
    assert command([*common, "--detections", str(out)]) == 0
    assert json.loads(scores.read_bytes()) == first
    assert command([*common, *bundle]) == 0
    assert json.loads(scores.read_bytes()) == first
    (photos / "a.png").write_text("no image any more")
    assert command([*common, *bundle]) == 1
    assert capsys.readouterr().err.startswith("failed: a.png: not an image")


def test_table(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {"label": "cat", "score": 0.9, "box": [0, 0, 120, 90]}
    image = {"file": "a.png", "width": 120, "height": 90, "detections": [found]}
    detections = tmp_path / "dets.json"
    content = {"format": "detections/1", "classes": ["cat"], "images": [image]}
    detections.write_text(json.dumps(content))
    arguments = ["--coco", str(truth), "--rule", "voc2007", "--detections", str(detections)]
    assert command(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["cat", "33.33", "36.36", "3", "1"]
    assert lines[2].split() == ["cow", "none", "none", "0", "0"]
    assert lines[3].split() == ["mean", "33.33", "36.36"]
    assert lines[4].startswith(f"3 images, 2 of them not in {detections}; rule: PASCAL VOC 2007")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "one of --coco ANNOTATIONS.json and --classification", id="nothing"),
        pytest.param(["--coco", "absent.json"], "--coco needs --rule: allowed is", id="rule"),
        pytest.param(
            ["--coco", "absent.json", "--rule", "voc2007"], "absent.json: cannot be read", id="file"
        ),
        pytest.param(
            ["--classification", "."], "--classification needs --weights", id="classification"
        ),
    ],
)
def test_wrong_calls(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_folder_of_images_is_needed(truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["--coco", str(truth), "--rule", "voc2007"]) == 2
    assert "truth: no such folder: --images DIR says" in capsys.readouterr().err

"""Checks of the files that a run writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.batch.inputs import Input, find_images
from detector.batch.outputs import Outputs, drawing_path
from detector.errors import SettingsError


@pytest.fixture
def inputs(photos: Path, monkeypatch: pytest.MonkeyPatch) -> list[Input]:
    """Change to a folder with photos, a file and a folder of other files; return the photos."""
    monkeypatch.chdir(photos.parent)
    Path("a_file").touch()
    Path("taken").mkdir()
    Path("taken", "letter.txt").touch()
    return find_images(["photos"])


OUT = Path("dets.json")

CLASSES = ("cat", "dog")


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        pytest.param(Outputs(Path()), "--out .: must name a file or folder", id="no name"),
        pytest.param(
            Outputs(Path("photos/a.png")),
            "--out photos/a.png: would overwrite a file",
            id="an image",
        ),
        pytest.param(Outputs(OUT, stats=OUT), "--stats dets.json: is --out already", id="twice"),
        pytest.param(
            Outputs(OUT, proposals=Path("x/../dets.json")),
            "--proposals-out x/../dets.json: is --out already",
            id="twice by another path",
        ),
        pytest.param(
            Outputs(Path("a_file/x.json")),
            "a_file is not a folder that can be",
            id="in a file",
        ),
        pytest.param(Outputs(Path("taken")), "--out taken: is a folder, but must be", id="folder"),
        pytest.param(
            Outputs(OUT, proposals=Path("taken")),
            "out taken: is a folder",
            id="a folder for proposals",
        ),
        pytest.param(
            Outputs(Path("a_file"), "yolo"), "--out a_file: is a file, but yolo makes", id="file"
        ),
        pytest.param(
            Outputs(Path("taken"), "voc"),
            "--out taken: is a folder with other files",
            id="foreign files",
        ),
        pytest.param(
            Outputs(OUT, proposals=Path("dets.json.journal")),
            "--proposals-out dets.json.journal: is the journal of --out already",
            id="a journal",
        ),
        pytest.param(
            Outputs(Path("x/../a_file"), protected=(Path("a_file"),)),
            "--out x/../a_file: would overwrite a file that the command reads",
            id="a file that is read",
        ),
        pytest.param(
            Outputs(OUT, drawings=Path("a_file")),
            "a_file: is a file, but must",
            id="drawings in a file",
        ),
        pytest.param(
            Outputs(OUT, drawings=Path("photos")),
            "--visualize photos/e.jpg: would overwrite",
            id="photos",
        ),
    ],
)
def test_bad_outputs_are_refused(inputs: list[Input], outputs: Outputs, message: str) -> None:
    Path("photos", "e.jpg").touch()
    with pytest.raises(SettingsError, match=message):
        outputs.check(find_images(["photos"]), CLASSES)


@pytest.mark.parametrize(
    "outputs",
    [
        pytest.param(Outputs(OUT), id="a file"),
        pytest.param(Outputs(Path("new/deep/dets.json"), stats=OUT), id="a new folder"),
        pytest.param(Outputs(Path("a_file")), id="over a file"),
        pytest.param(Outputs(Path("new"), "voc"), id="a folder format"),
        pytest.param(
            Outputs(OUT, drawings=Path("photos/boxes")), id="drawings in a subfolder of the images"
        ),
    ],
)
def test_good_outputs_are_accepted(inputs: list[Input], outputs: Outputs) -> None:
    outputs.check(inputs, CLASSES)


def test_two_images_with_the_same_drawing_are_refused(tmp_path: Path) -> None:
    inputs = [Input(name, tmp_path / name) for name in ("a.png", "a.png.jpg")]
    with pytest.raises(SettingsError, match=r"a.png.jpg would be the drawing of both a.png and a"):
        Outputs(tmp_path / "d.json", drawings=tmp_path / "p").check(inputs, CLASSES)


def test_each_image_has_a_drawing_of_its_own() -> None:
    names = ["a.jpg", "a.JPG", "a.png", "a.jpeg", "b/a.jpg"]
    assert len({drawing_path(Path("p"), name) for name in names}) == len(names)

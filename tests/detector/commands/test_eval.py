from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from detector.bundles.bundle import Bundle
from detector.commands.eval import command


@pytest.fixture
def truth(photos: Path, tmp_path: Path) -> Path:
    names = ["a.png", "b c é.png", "more/d.png"]
    content = {
        "images": [
            {"id": n, "file_name": name, "width": 120, "height": 24} for n, name in enumerate(names)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "cow"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 3, "bbox": [0, 0, 120, 24], "difficult": 0}
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
    found = {"label": "cat", "score": 0.9, "box": [0, 0, 120, 24]}
    image = {"file": "a.png", "width": 120, "height": 24, "detections": [found]}
    detections = tmp_path / "dets.json"
    content = {"format": "detections/1", "classes": ["cat"], "images": [image]}
    detections.write_text(json.dumps(content))
    arguments = ["--coco", str(truth), "--rule", "voc2007", "--detections", str(detections)]
    assert command(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["cat", "33.33", "36.36", "3", "1"]
    assert lines[2].split() == ["cow", "none", "none", "0", "0"]
    assert [line.split() for line in lines[3:6]] == [
        ["mean", "33.33"],
        ["median", "33.33"],
        ["mean_ap_11point", "36.36"],
    ]
    assert lines[6].startswith("3 images, 1 classes without ground truth; rule: PASCAL VOC 2007")
    assert lines[7] == f"2 images are not in {detections}, such as b c é.png"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "one of --ilsvrc-det val|val1|val2, --voc", id="nothing"),
        pytest.param(["--coco", "absent.json"], "--coco needs --rule: allowed are", id="rule"),
        pytest.param(
            ["--coco", "absent.json", "--rule", "voc2007"], "absent.json: cannot be read", id="file"
        ),
        pytest.param(
            ["--classification", "."], "--classification needs --weights", id="classification"
        ),
        pytest.param(
            ["--classification", ".", "--report", "r"],
            "--report has no effect with --classification",
            id="report",
        ),
        pytest.param(
            ["--voc", "2012", "--rule", "coco"], "--rule goes only with --coco", id="rule of VOC"
        ),
        pytest.param(
            ["--coco", "a", "--rule", "coco", "--detections", "b", "--overwrite"],
            "--overwrite has no effect with --detections",
            id="overwrite",
        ),
        pytest.param(
            ["--coco", "a", "--rule", "coco", "--proposals", "opencv", "--compare", "b"],
            "--compare has no effect with --proposals",
            id="compare",
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


XML = (
    "<annotation><size><width>120</width><height>24</height></size>"
    "<object><name>n02121808</name><bndbox>"
    "<xmin>10</xmin><xmax>80</xmax><ymin>5</ymin><ymax>20</ymax></bndbox></object></annotation>"
)


@pytest.fixture
def ilsvrc_root(photos: Path, tmp_path: Path) -> Path:
    """The official tree with two photos, and a kit in it."""
    root = tmp_path / "ILSVRC"
    for name in ("a", "b"):
        photo = root / "Data" / "DET" / "val" / f"{name}.JPEG"
        photo.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / "a.png", photo)  # the suffix does not matter
        file = root / "Annotations" / "DET" / "val" / f"{name}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(XML)
    (root / "ImageSets" / "DET").mkdir(parents=True)
    (root / "ImageSets" / "DET" / "val.txt").write_text("a 1\nb 2\n")
    (root / "devkit" / "data" / "det_lists").mkdir(parents=True)
    (root / "devkit" / "data" / "det_lists" / "val.txt").write_text("z 1\na 2\nb 3\n")
    blacklist = root / "devkit" / "data" / "ILSVRC2015_det_validation_blacklist.txt"
    blacklist.write_text("1 n02121808\n3 n02121808\n")
    return root


def test_ilsvrc_with_the_pipeline(
    ilsvrc_root: Path,
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ILSVRC_ROOT", str(ilsvrc_root))
    scores = tmp_path / "scores.json"
    out = ["--out", str(tmp_path / "dets.json"), "--json", str(scores)]
    arguments = ["--ilsvrc-det", "val", "--bundle", str(tiny_bundle.directory), *out]
    assert command([*arguments, "--device", "cpu", "--shared-classes"]) == 0
    printed = capsys.readouterr().out
    content = json.loads(scores.read_text())
    assert len(content["classes"]) == 200
    cat = content["classes"][58]
    assert (cat["name"], cat["positives"]) == ("domestic cat", 1)  # b's is blacklisted
    assert content["shared"]["classes"] == ["dog", "domestic cat", "person"]
    assert content["mean_ap"] == content["shared"]["mean_ap"] == cat["ap"]
    assert "mean, 3 shared classes" in printed
    assert "2 images, 199 classes without ground truth; rule: ILSVRC DET" in printed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 58 0.5 1 2 3", ":2: must be image, class, score, xmin, ymin, xmax, ymax, not '1 58"),
        ("1 58 0.5 1 2 3 4 5", ":2: must be image, class"),
        ("1 58 half 1 2 3 4", ":2: must be image, class"),
        ("1 58 nan 1 2 3 4", ":2: numbers must be finite"),
        ("1 58 0.5 1 inf 3 4", ":2: numbers must be finite"),
        ("1 0 0.5 1 2 3 4", ":2: class 0 is not one of 1 to 200"),
        ("1 201 0.5 1 2 3 4", ":2: class 201 is not one of"),
        ("1 1.5 0.5 1 2 3 4", ":2: class 1.5 is not one of"),
        ("3 58 0.5 1 2 3 4", ":2: image 3 is not in the list"),
        ("0 58 0.5 1 2 3 4", ":2: image 0 is not in the list"),
        ("1e300 58 0.5 1 2 3 4", ":2: image 1e300 is not in the list"),
    ],
)
def test_malformed_submissions(
    ilsvrc_root: Path,
    tmp_path: Path,
    line: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "submission.txt"
    file.write_text(f"1 59 0.9 10 5 80 20\n{line}\n2 59 0.9 10 5 80 20\n")
    arguments = ["--ilsvrc-det", "val", "--data-root", str(ilsvrc_root)]
    assert command([*arguments, "--detections", str(file)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert f"submission.txt{message}" in error


def test_ilsvrc_submissions_of_all_formats(
    ilsvrc_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = {"label": "cat", "score": 0.9, "box": [10, 5, 81, 21]}
    entry = {"file": "val/a.JPEG", "width": 120, "height": 24, "detections": [box]}
    native = {"format": "detections/1", "classes": ["cat"], "images": [entry]}
    result = {"image_id": 1, "category_id": 59, "bbox": [10, 5, 71, 16], "score": 0.9}
    files = {"a.txt": "1 59 0.9 10 5 80 20", "b.json": native, "c.json": [result]}
    for name, content in files.items():
        file = tmp_path / name
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        arguments = ["--ilsvrc-det", "val", "--data-root", str(ilsvrc_root), "--json"]
        arguments += [str(tmp_path / "scores.json"), "--detections", str(file)]
        assert command(arguments) == 0
        scores = json.loads((tmp_path / "scores.json").read_text())
        assert scores["mean_ap"] == 1
        assert scores["official"]["mean_ap"] == pytest.approx(1 / 59)
        shared = {"mean_ap": 1, "classes": ["domestic cat"]}
        assert scores["shared"] == (shared if name == "b.json" else None)
    capsys.readouterr()
    empty = tmp_path / "empty.txt"
    empty.touch()
    assert command([*arguments[:-1], str(empty)]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["mean_ap"] == 0
    empty.write_text("1 59 0.9 80 5 10 20\n")
    assert command([*arguments[:-1], str(empty)]) == 0
    assert "warning: 1 boxes end before they begin" in capsys.readouterr().err


def test_what_ilsvrc_needs(
    ilsvrc_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = ilsvrc_root / "devkit"
    for arguments, message in (
        (["val", "--devkit", str(tmp_path)], "det_lists/val.txt: is not there; it is part of"),
        (["val1", "--devkit", str(tmp_path)], "val.txt: is not there; it is part of"),
        (["val", "--devkit", str(kit)], "ground_truth.mat: is not there; it is part of"),
        (
            ["val", "--data-root", str(ilsvrc_root), "--detections", "no.txt"],
            "no.txt: cannot be read",
        ),
    ):
        assert command(["--ilsvrc-det", *arguments]) == 2
        assert message in capsys.readouterr().err
    (ilsvrc_root / "Annotations" / "DET" / "val" / "b.xml").unlink()
    assert command(["--ilsvrc-det", "val", "--data-root", str(ilsvrc_root)]) == 2
    assert "val/b.xml: cannot be read" in capsys.readouterr().err


def test_voc_tree_and_comparison(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "VOC2012"
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "val.txt").write_text("a\nb\n")
    for name in "ab":
        text = XML.replace("n02121808", "cat").replace(
            "<size>", f"<filename>{name}</filename><size>"
        )
        (root / "Annotations" / f"{name}.xml").write_text(text)
    for folder, first in (("good", "a 0.9 10 5 80 20"), ("bad", "a 0.9 1 1 5 5")):
        (tmp_path / folder).mkdir()
        lines = f"{first}\nb 0.8 10 5 80 20\n"
        (tmp_path / folder / "comp4_det_test_cat.txt").write_text(lines)
    scores = tmp_path / "scores.json"
    arguments = ["--voc", "2012", "--data-root", str(root), "--json", str(scores)]
    arguments += ["--detections", str(tmp_path / "good"), "--compare", str(tmp_path / "bad")]
    assert command(arguments) == 0
    content = json.loads(scores.read_text())
    assert content["mean_ap"] == 1
    assert [item["value"] for item in content["compare"]["mean_ap"]] == [1, 0.25]
    assert content["compare"]["difference"]["value"] == 0.75
    assert "difference of the means" in capsys.readouterr().out
    (tmp_path / "bad" / "comp4_det_test_cat.txt").write_text("c 0.9 1 1 5 5\n")
    assert command(arguments) == 2
    assert "comp4_det_test_cat.txt:1: the ground truth has no image 'c'" in capsys.readouterr().err


def test_coco_rule(truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results.json"
    found = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 120, 24], "score": 0.9}
    results.write_text(json.dumps([found]))
    scores = tmp_path / "scores.json"
    arguments = ["--coco", str(truth), "--rule", "coco", "--detections", str(results)]
    assert command([*arguments, "--json", str(scores)]) == 0
    content = json.loads(scores.read_text())
    assert content["AP50"] == pytest.approx(content["mean_ap"], abs=1e-12)
    assert content["mean_ap"] == pytest.approx(34 / 101)
    assert content["AP_small"] is None
    assert "AR_100" in capsys.readouterr().out


def test_report(truth: Path, photos: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text(
        json.dumps([{"image_id": 1, "category_id": 5, "bbox": [0, 0, 120, 24], "score": 0.9}])
    )
    arguments = ["--coco", str(truth), "--rule", "coco", "--detections", str(results)]
    assert command([*arguments, "--images", str(photos), "--report", str(tmp_path / "r")]) == 0
    page = (tmp_path / "r" / "index.html").read_text()
    assert "classification in b c é.png" in page
    assert {file.name for file in (tmp_path / "r").iterdir()} == {
        "classes.csv",
        "index.html",
        "mistakes.csv",
        "report.json",
    }


def test_proposals_of_an_engine_and_of_a_file(
    truth: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    scores = tmp_path / "scores.json"
    arguments = ["--coco", str(truth), "--rule", "voc2007", "--images", str(photos)]
    arguments += ["--json", str(scores)]
    alone = ["--set", "multibox.count=0"]
    assert command([*arguments, "--proposals", "opencv", *alone]) == 0
    by_engine = json.loads(scores.read_text())["proposals"]["selective_search"]
    assert by_engine["coverage"] == 1  # the whole photo is a proposal
    assert "seconds an image and core" in capsys.readouterr().out
    (kept,) = tmp_path.glob("proposals-*.jsonl")
    file = tmp_path / "p.jsonl"
    file.write_text("".join(kept.read_text().splitlines(keepends=True)[1:]))
    assert command([*arguments, "--proposals", str(file)]) == 0
    assert json.loads(scores.read_text())["proposals"]["selective_search"] == by_engine
    assert command([*arguments, "--proposals", "magic"]) == 2
    assert "--proposals magic: is no file and no engine" in capsys.readouterr().err
    arguments[arguments.index(str(photos))] = str(tmp_path)
    assert command([*arguments, "--proposals", "opencv"]) == 2
    error = capsys.readouterr().err
    assert "failed: a.png: cannot be read" in error
    assert error.endswith("error: there is no photo to evaluate proposals on\n")
    given = ["--coco", str(truth), "--rule", "voc2007", "--proposals", str(file)]
    assert command(given) == 0  # no photo is opened


def test_members_that_are_not_given(capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--weights", "a.safetensors", "--labels", "labels.txt", "--members", "2"]
    assert command(["--classification", ".", *files]) == 2
    assert "--members 2: --weights has 1 files" in capsys.readouterr().err
